"""Outputs go when they are to go, as far as they are to go, whoever dies over it; later ones stay."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.jobs.clearing import ClearingKind, Clearings, newest_generation
from airflow_monai.maps.workflows import TASK
from airflow_monai.store import Store
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.jobs.conftest import PAYLOAD


@pytest.fixture
def folder(store: Store) -> RunFolder:
    made = RunFolder(store, PAYLOAD, "map.lung.1.0.0", f"monai__{PAYLOAD}")
    leave(made, 1)
    return made


def leave(folder: RunFolder, generation: int, canceled: bool = False) -> None:
    """What a task leaves."""
    output = folder.output_key(TASK, -1, generation)
    folder.store.write(f"{output}/a/seg.dcm", b"x")
    folder.store.write(folder.log_key(TASK, -1, generation), b"log")
    for note in ("map", "progress", *(["canceled"] if canceled else [])):
        folder.store.write_json(folder.note_key(TASK, -1, generation, note), {})
    record = TaskRecord(
        TASK,
        "map",
        TaskStatus.SUCCEEDED,
        "e",
        generation=generation,
        output_dir=output,
        artifacts={"results": (f"{output}/a/seg.dcm",)},
        result={"patient": "Planted"},
        stats={"seconds": 1.0},
    )
    folder.write_record(record)


def left(folder: RunFolder) -> list[str]:
    top = folder.task_key(TASK)
    return sorted(key.removeprefix(f"{top}/") for key in folder.store.list(top))


def test_deleting_takes_the_results_and_finalizing_all(folder: RunFolder, store: Store) -> None:
    clearings = Clearings(store)
    wanted, is_new = clearings.want(folder, ClearingKind.DELETED, by="anna")
    assert is_new and not clearings.want(folder, ClearingKind.DELETED, by="ben")[1]
    assert (clearings.sweep(), clearings.sweep()) == (1, 0)
    assert left(folder) == ["g1.log", "g1.map.json", "g1.progress.json", "task.json"]
    record = folder.record(TASK)
    assert record is not None and not record.result and not record.artifacts and record.stats == {"seconds": 1.0}
    done = clearings.find(wanted.job_id, 1, ClearingKind.DELETED)
    assert done is not None and done.done and done.by == "anna"

    clearings.want(folder, ClearingKind.FINALIZED, by="anna")
    assert clearings.sweep() == 1
    assert left(folder) == ["g1.map.json", "task.json"]


def test_that_somebody_canceled_it_stays_known(folder: RunFolder, store: Store) -> None:
    leave(folder, 1, canceled=True)
    Clearings(store).want(folder, ClearingKind.FINALIZED, by="anna")
    assert Clearings(store).sweep() == 1
    assert left(folder) == ["g1.canceled.json", "g1.map.json", "task.json"]


def test_what_is_not_due_stays(folder: RunFolder, store: Store) -> None:
    wanted, _ = Clearings(store).want(folder, ClearingKind.FINALIZED, by="anna", minutes=5)
    before = left(folder)
    assert Clearings(store).sweep() == 0 and left(folder) == before
    assert Clearings(store).find(wanted.job_id, 1, ClearingKind.FINALIZED) == wanted


def test_outputs_of_a_later_generation_stay(folder: RunFolder, store: Store) -> None:
    Clearings(store).want(folder, ClearingKind.FINALIZED, by="anna")
    leave(folder, 2)
    assert newest_generation(folder) == 2
    Clearings(store).sweep()
    assert left(folder) == ["g1.map.json", "g2.log", "g2.map.json", "g2.progress.json", "g2/a/seg.dcm", "task.json"]
    record = folder.record(TASK)
    assert record is not None and record.result


@pytest.mark.parametrize("place", ["delete_tree", "delete", "write"])
def test_whoever_dies_over_it_another_ends_it(
    folder: RunFolder, store: Store, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clearings(store).want(folder, ClearingKind.FINALIZED, by="anna")

    def die(*_: Any, **__: Any) -> None:
        raise StoreError("it died")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), place, die)
        assert Clearings(store).sweep() == 0
    assert Clearings(store).sweep() == 1
    assert left(folder) == ["g1.map.json", "task.json"] and not list(store.children("jobs/clearing"))


def test_a_damaged_note_keeps_no_other(folder: RunFolder, store: Store) -> None:
    store.write("jobs/clearing/a.json", b"{")
    Clearings(store).want(folder, ClearingKind.DELETED, by="anna")
    assert Clearings(store).sweep() == 1


def test_a_payload_that_is_gone_comes_not_back(folder: RunFolder, store: Store) -> None:
    Clearings(store).want(folder, ClearingKind.DELETED, by="anna")
    store.delete_tree(f"payloads/{PAYLOAD}")
    assert Clearings(store).sweep() == 1
    assert list(store.list(f"payloads/{PAYLOAD}")) == []
