"""Names of maps: what one process has read of many datasets serves all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.datasets.catalogue import Datasets, _by_name
from airflow_monai.datasets.model import Dataset, State
from airflow_monai.errors import StoreError
from airflow_monai.mip import names
from airflow_monai.mip.names import map_names
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, payload_uuid

COUNT = 40


class Counting(LocalStore):
    """Counts what is read."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.read_keys: list[str] = []

    def read(self, key: str) -> bytes:
        self.read_keys.append(key)
        return super().read(key)


def listed(store: LocalStore, number: int, name: str = "") -> Dataset:
    """A dataset, as far as its name is concerned."""
    created = f"2026-03-01T09:{number // 60:02d}:{number % 60:02d}.000+00:00"
    dataset_id = payload_uuid(f"names {number}")
    made = Dataset(dataset_id, name or f"PEACH {number}", State.READY, created, "anna", "upload", 1, 1, 1, ())
    datasets = Datasets(store)
    store.write_json(f"datasets/records/{dataset_id}.json", made.to_dict())
    store.write_json(manifest_key(dataset_id), {})
    datasets._list(made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    made = Counting(tmp_path)
    for number in range(COUNT):
        listed(made, number)
    return made


def map_names_of_new_process(store: Counting) -> list[str]:
    names._names.clear()
    store.read_keys.clear()
    return map_names(store)


def test_a_process_reads_no_dataset_that_another_one_has_read(store: Counting) -> None:
    every = sorted(f"PEACH {number}" for number in range(COUNT))
    assert map_names_of_new_process(store) == every and len(store.read_keys) == COUNT
    assert map_names_of_new_process(store) == every and store.read_keys == [names.KEPT]
    store.read_keys.clear()
    assert map_names(store) == every and store.read_keys == []


def test_what_is_new_or_gone_is_seen_at_once(store: Counting) -> None:
    map_names(store)
    twice, gone = listed(store, 41, "PEACH 1"), listed(store, 42, "PLUM")
    store.read_keys.clear()
    assert "PLUM" in map_names(store) and len(map_names(store)) == COUNT + 1
    assert len(store.read_keys) <= 3
    for dataset in (twice, gone):
        store.delete(_by_name(dataset))
    assert "PLUM" not in map_names(store) and "PEACH 1" in map_names(store)
    assert "PLUM" not in map_names_of_new_process(store)


@pytest.mark.parametrize("kept", [b"", b"[1]", b'{"a": "not there"}', b"\xff"])
def test_a_damaged_list_is_made_anew(store: Counting, kept: bytes) -> None:
    store.write(names.KEPT, kept)
    assert len(map_names_of_new_process(store)) == COUNT
    assert map_names_of_new_process(store) and store.read_keys == [names.KEPT]


def test_a_store_that_takes_nothing_more_is_read_all_the_same(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("full")

    monkeypatch.setattr(Counting, "write", full)
    assert len(map_names_of_new_process(store)) == COUNT
