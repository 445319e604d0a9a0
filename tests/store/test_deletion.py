"""Deleting a payload: what goes, what stays, and that neither a second wish nor a death in the middle harms."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import PayloadDeleted, PayloadNotFound
from airflow_monai.store import Store
from airflow_monai.store.deletion import (
    DeletionState,
    NotDeletable,
    delete_payload,
    deletion_of,
    doomed,
    note_not_deleted,
    request_deletion,
)
from airflow_monai.store.history import history_of
from airflow_monai.store.intake import Instance, Intake
from airflow_monai.store.local import LocalStore
from airflow_monai.store.part10 import Identity
from airflow_monai.store.payloads import load_payload, payload_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.store.summaries import PatientFilter, PayloadIndex, read_summary
from airflow_monai.types import Payload, TaskRecord, TaskStatus
from tests.gateway.studies import CT, image

STUDY, SERIES = "1.2.3", "1.2.3.4"
NAME, ID = "Doe^Jane", "PID-77"


def put(intake: Intake, store: Store, number: int, study: str = STUDY) -> str:
    data = image(study, SERIES, number, PatientName=NAME, PatientID=ID, AccessionNumber="ACC-9")
    file = store.spool() / f"{study}.{number}.dcm"
    file.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(file, enforce_file_format=True)
    sop = Identity(study, SERIES, data.SOPInstanceUID, CT)
    placed = intake.add(Instance(sop, "CTLUNG", "CT01"), file)
    file.unlink(missing_ok=True)
    return placed.payload_id


def closed(store: Store, images: int = 2, study: str = STUDY) -> Payload:
    """A payload with a run, its results and an export."""
    intake = Intake(store)
    for number in range(images):
        payload_id = put(intake, store, number, study)
    payload = intake.close(payload_id)
    intake.done(payload_id)
    store.write_json(
        payload_key(payload_id, "routing.json"),
        [{"workflow": "look", "dag_id": "look", "version": "1", "wanted": True, "reason": "it fits"}],
    )
    store.write_json(
        payload_key(payload_id, "runs", "look.json"), {"dag_id": "look", "run_id": "r", "version": "1", "time": 1.0}
    )
    folder = RunFolder(store, payload_id, "look", "r")
    for index in (-1, 0):
        output = folder.output_key("work", index, 1)
        store.write(f"{output}/result/task.json", NAME.encode())
        store.write(f"{output}.log", NAME.encode())
        folder.write_record(
            TaskRecord(
                task_id="work",
                task_type="map",
                status=TaskStatus.SUCCEEDED,
                execution_id="e",
                map_index=index,
                output_dir=output,
                result={"who": NAME},
                stats={"seconds": 2, "told": {"of": NAME}},
                artifacts={"result": (f"{output}/result/task.json",)},
            )
        )
    store.write_json(
        payload_key(payload_id, "exports", "PACS", "1.json"),
        {"1.2": {"state": "accepted", "comment": f"stored for {NAME}", "attempts": 1}},
    )
    return payload


def texts(store: Store, payload_id: str) -> str:
    return "\n".join(key + " " + store.read(key).decode("latin-1") for key in store.list(payload_key(payload_id)))


def test_what_goes_and_what_stays(store: Store) -> None:
    payload = closed(store)
    payload_id = payload.payload_id
    assert NAME in texts(store, payload_id) and deletion_of(store, payload_id).state is DeletionState.NO
    asked = request_deletion(store, payload_id, "anna", "wrong\nAE title")
    assert asked.state is DeletionState.IN_PROGRESS and doomed(store) == {payload_id}
    assert load_payload(store, payload_id) == payload
    done = delete_payload(store, payload_id)
    assert (done.state, done.by, done.reason, done.images) == (DeletionState.YES, "anna", "wrong AE title", 2)
    assert not doomed(store)
    left = texts(store, payload_id)
    assert NAME not in left and ID not in left and "ACC-9" not in left and ".dcm" not in left.split("listing.json")[0]
    with pytest.raises(PayloadDeleted, match="was deleted"):
        load_payload(store, payload_id)
    history = history_of(store, payload_id)
    assert (history.summary.state, history.summary.standing, history.summary.images) == ("deleted", "deleted", 2)
    assert history.summary.called_aet == "CTLUNG" and history.summary.closed == payload.closed
    assert history.deletion.by == "anna"
    assert [(task.task_id, task.status.value, dict(task.result)) for task in history.runs[0].tasks] == [
        ("work", "Succeeded", {})
    ] * 2
    assert history.runs[0].tasks[0].stats == {"seconds": 2}
    assert store.read_json(payload_key(payload_id, "exports", "PACS", "1.json"))["1.2"]["state"] == "accepted"
    with pytest.raises(NotDeletable, match="has been deleted already"):
        request_deletion(store, payload_id, "ben")


def test_what_began_just_before_is_waited_for(store: Store) -> None:
    """It has read the manifest; what it makes would stay for ever."""
    payload_id = closed(store).payload_id
    request_deletion(store, payload_id, "anna")
    with pytest.raises(NotDeletable, match="works on"):
        delete_payload(store, payload_id, lambda: True)
    with pytest.raises(PayloadDeleted):  # nothing begins any more
        load_payload(store, payload_id)
    assert (
        list(store.list(payload_key(payload_id, "dcm"))) and deletion_of(store, payload_id).state.value == "InProgress"
    )
    made = f"{RunFolder(store, payload_id, 'look', 'r').output_key('work', -1, 9)}/late.dcm"
    store.write(made, b"x")
    assert delete_payload(store, payload_id, lambda: False).state is DeletionState.YES
    assert not store.exists(made) and NAME not in texts(store, payload_id)


def test_a_task_that_was_ended_before_it_made_anything_is_in_nobody_s_way(local: LocalStore) -> None:
    payload_id = closed(local).payload_id
    folder = RunFolder(local, payload_id, "look", "r")
    place = local.local_path(folder.output_key("work", -1, 2))
    assert place is not None
    place.mkdir()
    (place.parent.parent / "early" / "g1").mkdir(parents=True)
    local.write_json(f"{folder.output_key('work', -1, 2)}.canceled.json", {"by": "anna"})
    request_deletion(local, payload_id, "anna")
    assert delete_payload(local, payload_id).state is DeletionState.YES
    assert not place.exists() and NAME not in texts(local, payload_id)
    assert f"{folder.output_key('work', -1, 2)}.canceled.json" in texts(local, payload_id), "as it is told of the task"


def test_an_image_of_it_that_comes_again_is_new(store: Store) -> None:
    before, payload_id = Intake(store), closed(store).payload_id
    assert put(before, store, 1) == payload_id  # this gateway knows it by heart
    request_deletion(store, payload_id, "anna")
    again = put(before, store, 1)  # while it is being deleted: success would be a lie
    assert again != payload_id
    delete_payload(store, payload_id)
    assert not list(store.list(payload_key(payload_id, "dcm")))
    late = put(Intake(store), store, 7)
    assert late == again
    whole = before.gather(before.close(late))
    assert [file.path for file in before.close(whole).files] == [file.path for file in load_payload(store, late).files]


def test_an_image_that_came_again_after_a_deletion_is_in_one_payload(store: Store) -> None:
    stale, payload_id = Intake(store), closed(store).payload_id
    assert put(stale, store, 1) == payload_id
    request_deletion(store, payload_id, "anna")
    delete_payload(store, payload_id)
    other = Intake(store)
    again = put(other, store, 1)
    other.close(again)
    assert put(stale, store, 1) == put(Intake(store), store, 1) == put(other, store, 1) == again


def test_of_many_who_ask_one_is_told_that_it_did(local: LocalStore) -> None:
    payload_id = closed(local).payload_id
    told: list[str] = []

    def ask(name: str) -> None:
        try:
            request_deletion(LocalStore(local.root), payload_id, name)
            told.append(name)
        except NotDeletable:
            told.append("")

    threads = [threading.Thread(target=ask, args=(f"p{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told)[:7] == [""] * 7
    assert deletion_of(local, payload_id).by == max(told)


class Dead(BaseException):
    """kill -9, as far as a test in one process can have it."""


class Dying(LocalStore):
    """A store whose process dies before its ``number``-th change."""

    def __init__(self, root: Path, number: int):
        super().__init__(root)
        self.left = number

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Dead

    def write(self, *args: Any, **more: Any) -> None:
        self._step()
        super().write(*args, **more)

    def create(self, *args: Any) -> bool:
        self._step()
        return super().create(*args)

    def delete(self, key: str) -> None:
        self._step()
        super().delete(key)

    def delete_tree(self, prefix: str) -> None:
        self._step()
        super().delete_tree(prefix)


def test_one_that_dies_anywhere_is_gone_on_with(tmp_path: Path) -> None:
    number, died = 0, True
    while died:
        store = LocalStore(tmp_path / str(number))
        payload_id = closed(store).payload_id
        request_deletion(store, payload_id, "anna")
        try:
            delete_payload(Dying(store.root, number), payload_id)
            died = False
        except Dead:
            state = history_of(store, payload_id)
            assert state.deletion.state in (DeletionState.IN_PROGRESS, DeletionState.YES)
        done = delete_payload(store, payload_id)
        assert (done.state, done.images, done.by) == (DeletionState.YES, 2, "anna"), number
        assert NAME not in texts(store, payload_id) and not doomed(store), number
        number += 1
    assert number > 10


class Overtaken(LocalStore):
    """A store in which the payload is deleted by somebody else just before the ``number``-th look."""

    def __init__(self, root: Path, number: int, payload_id: str):
        super().__init__(root)
        self.left = number
        self._payload_id = payload_id

    def _look(self) -> None:
        self.left -= 1
        if self.left == -1:
            delete_payload(LocalStore(self.root), self._payload_id)

    def exists(self, key: str) -> bool:
        self._look()
        return super().exists(key)

    def read(self, key: str) -> bytes:
        self._look()
        return super().read(key)


@pytest.mark.parametrize("begun", [False, True], ids=["asked", "begun"])
def test_who_reads_it_while_it_is_deleted_is_never_told_that_there_is_none(tmp_path: Path, begun: bool) -> None:
    number, overtaken = 0, True
    while overtaken:
        root = tmp_path / str(number)
        payload_id = closed(LocalStore(root)).payload_id
        request_deletion(LocalStore(root), payload_id, "anna")
        if begun:
            with pytest.raises(NotDeletable):
                delete_payload(LocalStore(root), payload_id, lambda: True)
        store = Overtaken(root, number, payload_id)
        assert deletion_of(store, payload_id).state is not DeletionState.NO, number
        summary = read_summary(store, payload_id)
        assert summary is not None and not summary.is_open, number
        with suppress(PayloadDeleted):
            load_payload(store, payload_id)
        assert history_of(store, payload_id).deletion.state is not DeletionState.NO, number
        overtaken = store.left < 0
        number += 1
    assert number > 5


def test_what_is_still_to_be_done_comes_first(store: Store) -> None:
    intake = Intake(store)
    payload_id = put(intake, store, 1)
    with pytest.raises(NotDeletable, match="still open"):
        request_deletion(store, payload_id, "anna")
    intake.close(payload_id)
    with pytest.raises(NotDeletable, match="still being started"):
        request_deletion(store, payload_id, "anna")
    intake.done(payload_id)
    late = put(intake, store, 2)
    intake.gather(intake.close(late))
    with pytest.raises(NotDeletable, match="being joined"):
        request_deletion(store, payload_id, "anna")
    with pytest.raises(PayloadNotFound):
        request_deletion(store, "00000000-0000-0000-0000-000000000000", "anna")
    with pytest.raises(PayloadNotFound):
        request_deletion(store, "../x", "anna")
    assert not doomed(store)


def test_why_it_is_not_gone_yet_is_told(local: LocalStore) -> None:
    payload_id = closed(local).payload_id
    request_deletion(local, payload_id, "anna")
    note_not_deleted(local, payload_id, "the disk says no")
    told = deletion_of(local, payload_id)
    assert (told.state, told.error) == (DeletionState.FAILED, "the disk says no")
    assert delete_payload(local, payload_id).state is DeletionState.YES


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    read = LocalStore.read
    monkeypatch.setattr(LocalStore, "read", lambda self, key: (found.append(key), read(self, key))[1])
    return found


def test_lists_read_each_payload_once(local: LocalStore, reads: list[str]) -> None:
    ids = [closed(local, 1, study=f"1.2.{number}").payload_id for number in range(5)]
    still_open = put(Intake(local), local, 1, study="1.9")
    reads.clear()
    index = PayloadIndex(local)
    found = index.find()
    assert [summary.payload_id for summary in found] == [still_open, *reversed(ids)]
    assert len(reads) == 6 and not any(key.endswith("payload.json") for key in reads)
    reads.clear()
    assert len(index.find(PatientFilter(patient_name="dOE").takes)) == 5
    assert not index.find(PatientFilter(patient_name="doe", patient_id="78").takes)
    assert len(index.find(PatientFilter(accession_number="acc-").takes)) == 5
    assert len(reads) == 3  # the open one, each time
    request_deletion(local, ids[2], "anna")
    delete_payload(local, ids[2])
    gone = index.now(index.find())[3]
    assert gone.is_deleted and gone.patient.name is None and gone.images == 1
    assert len(index.find(PatientFilter(patient_name="doe").takes)) == 4


def test_a_payload_without_a_summary_is_listed_too(make_store: Callable[[], Store]) -> None:
    store = make_store()
    payload = closed(store)
    store.delete(payload_key(payload.payload_id, "summary.json"))
    (found,) = PayloadIndex(store).find()
    assert (found.patient.id, found.images, found.accession_number) == (ID, 2, "ACC-9")
