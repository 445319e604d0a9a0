"""What drivers and clusters say of their cards, as an inventory. Most outputs are made up, in the real form."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_monai.errors import InventoryError
from airflow_monai.gpu import detect
from airflow_monai.gpu.detect import as_lines, parse_smi
from airflow_monai.gpu.inventory import GIB, Cards, Host, Inventory, parse_inventory
from airflow_monai.gpu.kubernetes import hosts_of
from airflow_monai.gpu.pools import PoolRequest, request_of
from airflow_monai.gpu.sources import Sources, inventory_from

MACHINES = Path(__file__).parent / "machines"


def lines_of(machine: str, said: list[str] | None = None) -> list[Cards]:
    query, listing = MACHINES / f"{machine}.query.csv", MACHINES / f"{machine}.list.txt"
    found = parse_smi(query.read_text(), listing.read_text(), (said if said is not None else []).append)
    return list(as_lines(found))


def shape(lines: list[Cards]) -> list[tuple[str, int, int, str | None]]:
    return [(cards.card_class, cards.slots, cards.count, cards.mig) for cards in lines]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("dgx-a100", [("nvidia-a100-sxm4-40gb", 40, 8, None)]),
        ("t4", [("tesla-t4", 15, 1, None)]),
        ("h100", [("nvidia-h100-80gb-hbm3", 79, 1, None)]),
        (
            "a100-sliced",
            [
                ("nvidia-a100-sxm4-40gb-1g.5gb", 4, 2, "1g.5gb"),
                ("nvidia-a100-sxm4-40gb-2g.10gb", 9, 1, "2g.10gb"),
                ("nvidia-a100-sxm4-40gb-3g.20gb", 19, 1, "3g.20gb"),
                ("nvidia-a100-sxm4-40gb", 40, 1, None),
            ],
        ),
        ("a100-sliced-old-driver", [("a100-sxm4-40gb-1g.5gb", 4, 7, "1g.5gb")]),
        (
            "workstation",
            [
                ("nvidia-geforce-rtx-3090", 24, 1, None),
                ("nvidia-rtx-a6000", 47, 1, None),
                ("nvidia-t400-4gb", 4, 1, None),
            ],
        ),
        ("t4-two-drivers", [("tesla-t4-7gib", 7, 1, None), ("tesla-t4-15gib", 15, 1, None)]),
    ],
)
def test_each_kind_of_machine(machine, expected):
    assert shape(lines_of(machine)) == expected


def test_ids_are_what_the_driver_calls_them():
    whole, *_ = [line for line in lines_of("a100-sliced") if not line.mig]
    text = (MACHINES / "a100-sliced.list.txt").read_text()
    assert whole.indexes == (0,) and f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {whole.ids[0]})" in text
    slices = [id_ for line in lines_of("a100-sliced") if line.mig for id_ in line.ids]
    assert len(set(slices)) == 4 and all(f"(UUID: {id_})" in text for id_ in slices)
    assert all(id_.startswith("MIG-GPU-") for line in lines_of("a100-sliced-old-driver") for id_ in line.ids)


@pytest.mark.parametrize(
    ("machine", "left", "reason"),
    [
        (
            "h100-not-cut",
            [("nvidia-h100-80gb-hbm3", 79, 1, None)],
            "card 0 (NVIDIA H100 80GB HBM3) is left out",
        ),
        ("gb10", [], "card 0 (NVIDIA GB10) is left out: the driver does not tell its memory ([N/A])"),
    ],
)
def test_what_cannot_be_given_out_is_left_out_and_said(machine, left, reason):
    said: list[str] = []
    assert shape(lines_of(machine, said)) == left
    assert len(said) == 1 and said[0].startswith(reason)


@pytest.mark.parametrize("query", ["", "No devices were found\n", "index, uuid, name, memory.total [MiB]\nERR!, x\n"])
def test_another_output_is_refused(query):
    with pytest.raises(InventoryError, match="nvidia-smi printed what is no"):
        parse_smi(query, "")


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program nvidia-smi into the way."""

    def put(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    monkeypatch.setitem(sys.modules, "pynvml", None)
    return put


def test_the_driver_is_asked(smi):
    smi(f'[ "$1" = -L ] && exec cat {MACHINES}/dgx-a100.list.txt; exec cat {MACHINES}/dgx-a100.query.csv')
    assert shape(list(detect.detect())) == [("nvidia-a100-sxm4-40gb", 40, 8, None)]


def test_a_driver_that_does_not_answer_is_named(smi):
    smi("echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9")
    with pytest.raises(InventoryError, match=r"nvidia-smi failed \(exit code 9\): NVIDIA-SMI has failed because"):
        detect.detect()


def test_a_host_without_a_driver_says_what_to_do(smi, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InventoryError, match=r"no nvidia-smi on this host.*pools sync --inventory FILE"):
        detect.detect()


def test_nvml_is_asked_where_its_module_is_there(monkeypatch):
    """A stand-in for the module, which knows one card as a whole and one with a slice."""

    class NVMLError(Exception):
        pass

    def mig_mode(card):
        if card == 0:
            raise NVMLError("Not Supported")
        return 1, 1

    def part(card, number):
        if number:
            raise NVMLError("Not Found")
        return "part"

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda card: b"Tesla T4" if card == 0 else "NVIDIA A100-SXM4-40GB",
        nvmlDeviceGetUUID=lambda card: f"MIG-{card}" if card == "part" else f"GPU-{card}",
        nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(total=4864 << 20 if card == "part" else 15360 << 20),
        nvmlDeviceGetMigMode=mig_mode,
        nvmlDeviceGetMaxMigDeviceCount=lambda card: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=part,
        nvmlDeviceGetAttributes=lambda card: SimpleNamespace(gpuInstanceSliceCount=1, memorySizeMB=4864),
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    lines = list(detect.detect())
    assert shape(lines) == [("nvidia-a100-sxm4-40gb-1g.5gb", 4, 1, "1g.5gb"), ("tesla-t4", 15, 1, None)]
    assert [line.ids for line in lines] == [("MIG-part",), ("GPU-0",)]


def nodes() -> list[dict]:
    return json.loads((MACHINES / "kubernetes-nodes.json").read_text())["items"]


def test_nodes_of_a_cluster():
    hosts = hosts_of(nodes())
    assert {host.name: shape(list(host.cards)) for host in hosts} == {
        "gpu-a": [("nvidia-a100-sxm4-40gb", 40, 3, None), ("nvidia-a100-sxm4-40gb-1g.5gb", 4, 7, "1g.5gb")],
        "gpu-b": [("tesla-t4-shared", 3, 8, None)],
        "gpu-c": [("nvidia-a100-sxm4-40gb-1g.5gb", 4, 2, "1g.5gb")],
    }, "a broken card is not offered; a card that four share is four, with a fourth of its memory"


def test_a_card_of_a_cluster_is_never_shared_by_memory():
    inventory = Inventory(hosts_of(nodes()))
    assert request_of({"gpu_memory": "10Gi"}, inventory) == PoolRequest("gpu_nvidia-a100-sxm4-40gb", 40)


def test_a_node_that_does_not_say_what_its_cards_are_is_named():
    node = nodes()[1]
    node["metadata"]["labels"] = {}
    with pytest.raises(InventoryError, match=r"Node gpu-a has 3 x nvidia.com/gpu, but no labels.*feature discovery"):
        hosts_of([node])


def cards(model: str, memory: int, *ids: str) -> Cards:
    return Cards(model.lower(), model, memory * GIB, len(ids), None, ids, tuple(range(len(ids))))


def test_a_host_is_added_to_what_is_known_and_replaced_when_it_is_asked_again():
    first = inventory_from(Sources(detected=(cards("A100", 40, "GPU-a"),), host="gpu01"), None)
    both = inventory_from(Sources(detected=(cards("A100", 40, "GPU-b", "GPU-c"),), host="gpu02"), first)
    assert [(host.name, host.cards[0].count) for host in both.hosts] == [("gpu01", 1), ("gpu02", 2)]
    changed = inventory_from(Sources(detected=(cards("T4", 15, "GPU-d"),), host="gpu01"), both)
    assert [(c.name, c.count) for c in changed.classes()] == [("t4", 1), ("a100", 2)]


def test_nodes_that_left_the_cluster_leave_the_inventory_and_others_stay():
    kept = Inventory((Host("gpu01", (cards("L4", 22, "GPU-a"),)), Host("old", (cards("L4", 22),), "kubernetes")))
    merged = inventory_from(Sources(nodes=hosts_of(nodes()[1:2])), kept)
    assert [host.name for host in merged.hosts] == ["gpu-a", "gpu01"]


def test_files_are_together_the_whole_inventory(tmp_path):
    for name in ("gpu01", "gpu02"):
        (tmp_path / name).write_text(f"hosts: {{{name}: [{{model: T4, memory: 15}}]}}")
    kept = parse_inventory({"hosts": {"gpu03": [{"model": "T4", "memory": 15}]}})
    files = [str(tmp_path / "gpu01"), str(tmp_path / "gpu02")]
    assert [host.name for host in inventory_from(Sources(files), kept).hosts] == ["gpu01", "gpu02"]
    with pytest.raises(InventoryError, match=r"Both .*gpu01 and .*gpu01 say what cards the host gpu01 has"):
        inventory_from(Sources([files[0], files[0]]), kept)


def test_the_same_class_with_other_memory_on_another_host_is_refused():
    first = inventory_from(Sources(detected=(cards("A100", 40, "GPU-a"),), host="gpu01"), None)
    with pytest.raises(InventoryError, match=r"class 'a100' has different cards on gpu01 \(40 GiB\) and gpu02 \(80"):
        inventory_from(Sources(detected=(cards("A100", 80, "GPU-b"),), host="gpu02"), first)


def test_a_card_that_is_there_twice_is_refused():
    first = inventory_from(Sources(detected=(cards("A100", 40, "GPU-a"),), host="gpu01"), None)
    with pytest.raises(InventoryError, match=r"hosts.gpu02: the card GPU-a is there twice"):
        inventory_from(Sources(detected=(cards("A100", 40, "GPU-a"),), host="gpu02"), first)
