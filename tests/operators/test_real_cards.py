"""Applications that compute on a real NVIDIA card: they get the leased one, its memory is measured, it comes back.

They need a driver and no more of CUDA: the application talks to ``libcuda`` itself. Where there is no card they are
left out, in CI too; `make test-gpu` runs them on a host that has one.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from airflow_monai.errors import InventoryError
from airflow_monai.gpu import detect as detection
from airflow_monai.gpu.here import cards_of
from airflow_monai.gpu.inventory import GIB, Cards, Host, Inventory, save_inventory
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.leases import Holder, Leases, Want
from airflow_monai.maps.runners.process.sandbox import device_files
from airflow_monai.operators.map import MapOperator
from airflow_monai.store import open_store
from tests.operators.conftest import Site
from tests.operators.map_tasks import context_of
from tests.operators.test_map_durability import wait_until

NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""

COMPUTES = r'''
import ctypes, glob, json, os, time, uuid

PTX = b"""
.version 6.0
.target sm_60
.address_size 64
.visible .entry squares(.param .u64 numbers)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [numbers];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    mul.lo.s32 %r5, %r4, %r4;
    mul.wide.s32 %rd3, %r4, 4;
    add.s64 %rd4, %rd2, %rd3;
    st.global.u32 [%rd4], %r5;
    ret;
}
"""
N = 1 << 16
found = {"devices": sorted(glob.glob("/dev/nvidia[0-9]*")), "cards": [], "squares": None}


def driver():
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def must(code):
    assert code == 0, f"CUDA error {code}"


if os.environ.get("GREEDY"):  # whatever it was told, it asks for all that there are
    os.environ.pop("CUDA_DEVICE_ORDER")
    os.environ.pop("CUDA_VISIBLE_DEVICES")
cuda = driver()
found["init"] = None if cuda is None else cuda.cuInit(0)
if found["init"] == 0:
    count = ctypes.c_int()
    must(cuda.cuDeviceGetCount(ctypes.byref(count)))
    for number in range(count.value):
        id_ = (ctypes.c_ubyte * 16)()
        must(cuda.cuDeviceGetUuid(ctypes.byref(id_), number))
        found["cards"].append(f"GPU-{uuid.UUID(bytes=bytes(id_))}")
    if count.value:
        context, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        numbers, held = ctypes.c_uint64(), ctypes.c_uint64()
        must(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0))
        must(cuda.cuModuleLoadData(ctypes.byref(module), PTX))
        must(cuda.cuModuleGetFunction(ctypes.byref(function), module, b"squares"))
        must(cuda.cuMemAlloc_v2(ctypes.byref(numbers), ctypes.c_size_t(4 * N)))
        argument = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(numbers), ctypes.c_void_p))
        must(cuda.cuLaunchKernel(function, N // 256, 1, 1, 256, 1, 1, 0, None, argument, None))
        result = (ctypes.c_uint32 * N)()
        must(cuda.cuMemcpyDtoH_v2(result, numbers, ctypes.c_size_t(4 * N)))
        found["squares"] = all(result[at] == at * at & 0xFFFFFFFF for at in range(N))
        gib = float(os.environ.get("HOLD_GIB", "0"))
        if gib:
            must(cuda.cuMemAlloc_v2(ctypes.byref(held), ctypes.c_size_t(int(gib * 2**30))))
print("ready", flush=True)
time.sleep(float(os.environ.get("SECONDS", "0")))
with open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "metadata.json", "w") as file:
    json.dump(found, file)
'''


MODEL = """
import json, os, torch

card = torch.device("cuda")
layer = torch.nn.Conv3d(1, 8, 3, padding=1)
volume = torch.rand(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    expected, got = layer(volume), layer.to(card)(volume.to(card)).cpu()
found = {
    "cards": [f"GPU-{torch.cuda.get_device_properties(n).uuid}" for n in range(torch.cuda.device_count())],
    "equal": torch.allclose(expected, got, atol=1e-2),
}
with open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "metadata.json", "w") as file:
    json.dump(found, file)
"""


@pytest.fixture(scope="module")
def cards() -> tuple[Cards, ...]:
    """What the driver of this host has; whole cards only."""
    if shutil.which("nvidia-smi") is None:
        pytest.skip("needs an NVIDIA card: this host has no nvidia-smi")
    try:
        found = tuple(line for line in detection.detect() if line.mig is None)
    except InventoryError as error:
        pytest.skip(f"needs an NVIDIA card: {error}")
    return found or pytest.skip("needs an NVIDIA card that is not cut into slices")


@pytest.fixture
def line(site: Site, cards: tuple[Cards, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cards]:
    """A class of cards of this host, for a site that has all of them."""
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_LEASE_FOLDER", str(tmp_path / "leases"))
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_WAIT_MINUTES", "0.005")
    save_inventory(open_store(site.store), Inventory((Host("here", cards),)))
    yield cards[0]
    assert leased(tmp_path) == [], "each has given back what it had"


def leased(tmp_path: Path) -> list[str]:
    """Ids of the cards that somebody has, once for each who has them."""
    return [id_ for lease in LeaseFolder(tmp_path / "leases").read().leases for id_ in lease.cards]


def computing(
    site: Site, line: Cards, gib: float = 0, seconds: float = 0, greedy: str = "", **arguments: Any
) -> dict[str, Any]:
    """Arguments of a task that computes on its cards and holds memory of them; of a whole card unless told."""
    asked = {"resources": {"gpu": 1}, "pool": f"gpu_{line.card_class}", "pool_slots": line.slots}
    held = {"HOLD_GIB": str(gib), "SECONDS": str(seconds), "GREEDY": greedy}
    return site.arguments(map=site.maker.make("computes", COMPUTES), **{**asked, **arguments}) | {"environment": held}


def share_of(gib: int) -> dict[str, Any]:
    return {"resources": {"gpu_memory": f"{gib}Gi"}, "pool_slots": gib}


def on_cards() -> Counter[int]:
    """Processes that the driver sees on cards."""
    asked = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
    return Counter(map(int, subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()))


def says_ready(site: Site) -> bool:
    key = site.folder.log_key("segment", -1, 1)
    return site.folder.store.exists(key) and "ready" in site.log()


def test_the_driver_is_understood_by_both_ways(cards: tuple[Cards, ...]) -> None:
    pytest.importorskip("pynvml")
    by_smi = detection.parse_smi(detection._smi(*detection.QUERY), detection._smi("-L"))
    assert detection.as_lines(by_smi) == detection.as_lines(detection._by_nvml())
    assert all(id_.startswith("GPU-") for line in cards for id_ in line.ids)


@pytest.mark.parametrize("greedy", ["", "greedy"])
def test_an_application_computes_on_its_card_and_on_no_other(
    site: Site, line: Cards, tmp_path: Path, greedy: str
) -> None:
    others = Leases(LeaseFolder(tmp_path / "leases"), cards_of(Host("here", (line,))).cards, "here")
    for number in range(line.count - 1):  # others have all cards but one
        holder = Holder(f"other{number}", "process", "/gone")
        others.acquire(Want(line.card_class, 1, line.slots), holder, wait_seconds=0, holds=lambda lease: True)
    (free,) = set(line.ids) - set(leased(tmp_path))
    record = site.run(**computing(site, line, gib=2, seconds=8, greedy=greedy))
    assert record.result["cards"] == [free] and record.result["squares"] is True
    if site.runner == "process" and free in device_files():
        assert record.result["devices"] == [device_files()[free]]
    memory = record.stats["gpu_memory_bytes"]
    assert 2 * GIB <= memory < 4 * GIB, "what it held, and what CUDA needs itself"
    for number in range(line.count - 1):
        others.release(f"other{number}")


def test_a_model_in_pytorch_runs_on_the_leased_card(site: Site, line: Cards) -> None:
    pytest.importorskip("torch")
    if site.runner != "process":
        pytest.skip("the test's image has no PyTorch")
    asked = {"resources": {"gpu": 1}, "pool": f"gpu_{line.card_class}", "pool_slots": line.slots}
    record = site.run(**site.arguments(map=site.maker.make("model", MODEL), **asked))
    assert record.result["equal"] is True
    (card,) = record.result["cards"]
    assert card in line.ids


@pytest.mark.parametrize("greedy", ["", "greedy"])
def test_an_application_without_a_card_finds_none(site: Site, line: Cards, greedy: str) -> None:
    none = {"resources": {"gpu": 0}, "pool": "default_pool", "pool_slots": 1}
    record = site.run(**computing(site, line, greedy=greedy, **none))
    assert record.result["cards"] == [] and record.result["init"] != 0
    assert record.result["devices"] == []


def test_applications_share_a_card_up_to_its_memory(site: Site, line: Cards, tmp_path: Path) -> None:
    third = line.slots // 3 + 1  # two fit on a card, three do not
    arguments = computing(site, line, gib=1, seconds=10, **share_of(third))
    workers = []
    for number in range(2 * line.count):
        worker, _ = site.worker({**arguments, "task_id": f"share{number}"})
        workers.append(worker)
    wait_until(lambda: len(leased(tmp_path)) == 2 * line.count, 60)
    wait_until(lambda: len(on_cards()) >= 2 * line.count, 60)
    assert set(Counter(leased(tmp_path)).values()) == {2}
    late = MapOperator(**{**arguments, "task_id": "late"})
    with pytest.raises(AirflowRescheduleException):
        late.execute(context_of(late, site.payload_id))
    assert [worker.wait(60) for worker in workers] == [0] * len(workers)
    for number in range(len(workers)):
        record = site.folder.record(f"share{number}")
        assert record is not None and record.status == "Succeeded" and record.result["squares"] is True
    late.execute(context_of(late, site.payload_id))


def test_a_card_stays_with_an_application_whose_worker_was_killed(site: Site, line: Cards, tmp_path: Path) -> None:
    arguments = computing(site, line, gib=1, seconds=8)
    before = on_cards()
    worker, _ = site.worker(arguments)
    wait_until(lambda: says_ready(site), 60)
    (application,) = on_cards() - before
    worker.kill()
    worker.wait()
    card = leased(tmp_path)
    assert len(card) == 1
    record = site.run(try_number=2, **arguments)
    assert record.result["cards"] == card and record.result["squares"] is True
    assert application not in on_cards(), "the one that the first worker started has computed, and no second"
    assert record.stats["reattached"] is True


def test_time_that_is_over_takes_an_application_off_its_card(site: Site, line: Cards) -> None:
    before = on_cards()
    begun = time.monotonic()
    with pytest.raises(AirflowFailException, match="longer than its time limit"):
        site.run(**computing(site, line, gib=1, seconds=300, timeout_minutes=0.1))
    assert time.monotonic() - begun < 60
    wait_until(lambda: not on_cards() - before, 10)
