"""Reading the inventory of cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.errors import InventoryError
from airflow_monai.gpu.inventory import INVENTORY_KEY, load_inventory, parse_inventory, read_inventory, save_inventory
from airflow_monai.store.local import LocalStore

GIB = 1 << 30
SITE = """\
hosts:
  gpu01:
    - {model: NVIDIA A100, memory: 40 GiB, count: 2}
    - {model: NVIDIA A100, memory: 9856 MiB, mig: 1g.10gb, count: 7}
  gpu02:
    - {model: NVIDIA A100, memory: 40, count: 4}
    - {class: small, model: NVIDIA T4, memory: 15}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "gpus.yaml"
    path.write_text(SITE)
    return path


def test_classes_gather_the_cards_of_all_hosts(site):
    classes = {c.name: c for c in read_inventory(site).classes()}
    assert list(classes) == ["nvidia-a100-1g.10gb", "small", "nvidia-a100"], "the smallest card comes first"
    a100 = classes["nvidia-a100"]
    assert (a100.count, a100.most_on_a_host, a100.memory_bytes, a100.slots) == (6, 4, 40 * GIB, 240)
    mig = classes["nvidia-a100-1g.10gb"]
    assert (mig.mig, mig.card_slots, mig.slots) == ("1g.10gb", 9, 63), "9.6 GiB is 9 whole GiB to share out"


def test_json_is_read_too(tmp_path):
    path = tmp_path / "gpus.json"
    path.write_text('{"hosts": {"gpu01": [{"model": "T4", "memory": 15.5}]}}')
    (card,) = read_inventory(path).classes()
    assert (card.name, card.memory_bytes, card.slots) == ("t4", int(15.5 * GIB), 15)


def test_the_store_gives_back_what_it_was_given(site, tmp_path):
    store = LocalStore(tmp_path / "store")
    assert load_inventory(store) is None
    inventory = read_inventory(site)
    save_inventory(store, inventory)
    assert load_inventory(store) == inventory


def test_a_damaged_inventory_in_the_store_says_how_to_mend_it(tmp_path):
    store = LocalStore(tmp_path)
    store.write(INVENTORY_KEY, b'{"hosts": [{}]}')
    with pytest.raises(InventoryError, match=r"gpu/inventory\.json.*pools sync --inventory"):
        load_inventory(store)


@pytest.mark.parametrize(
    ("data", "place", "reason"),
    [
        ({}, "inventory:", "expected 'hosts:'"),
        ({"hosts": {}}, "inventory:", "expected 'hosts:'"),
        ({"hosts": {"a": [{"model": "T4", "memory": 15}]}, "host": 1}, "inventory:", "unknown field 'host'"),
        ({"hosts": {"a": None}}, "hosts.a:", "list of cards"),
        ({"hosts": {7: [{"model": "T4", "memory": 15}]}}, "hosts.7:", "name must be text"),
        ({"hosts": {"a": ["T4"]}}, "hosts.a[0]:", "expected a card"),
        ({"hosts": {"a": [{"memory": 15}]}}, "hosts.a[0]:", "needs 'model'"),
        ({"hosts": {"a": [{"model": "T4"}]}}, "hosts.a[0].memory:", "memory of one card"),
        ({"hosts": {"a": [{"model": "T4", "memory": "lots"}]}}, "hosts.a[0].memory:", "not an amount"),
        ({"hosts": {"a": [{"model": "T4", "memory": 0.5}]}}, "hosts.a[0].memory:", "between 1 GiB"),
        ({"hosts": {"a": [{"model": "T4", "memory": 15, "count": 0}]}}, "hosts.a[0].count:", "whole number"),
        ({"hosts": {"a": [{"model": "T4", "memory": 15, "cuont": 2}]}}, "hosts.a[0]:", "unknown field 'cuont'"),
        ({"hosts": {"a": [{"model": "T4", "memory": 15, "class": "No Good"}]}}, "hosts.a[0].class:", "cannot name"),
        ({"hosts": {"a": [{"model": ["T4"], "memory": 15}]}}, "hosts.a[0].model:", "expected a name"),
        (
            {"hosts": {"a": [{"model": "A100", "memory": 40}], "b": [{"model": "A100", "memory": 80}]}},
            "class 'a100'",
            "a (40 GiB) and b (80 GiB)",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(data, place, reason):
    with pytest.raises(InventoryError) as caught:
        parse_inventory(data)
    assert place in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["hosts: [", "hosts: !!python/object/apply:os.system [id]", "\x00", "[" * 5000])
def test_a_file_that_is_no_yaml_is_an_error_of_ours(tmp_path, text):
    path = tmp_path / "gpus.yaml"
    path.write_text(text)
    with pytest.raises(InventoryError, match=r"gpus\.yaml"):
        read_inventory(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InventoryError, match=r"none\.yaml cannot be read: No such file"):
        read_inventory(tmp_path / "none.yaml")
