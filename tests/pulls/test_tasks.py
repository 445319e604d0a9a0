"""Export tasks that clients fetch: one client at a time has one, and what it reports counts once."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_monai.errors import InvalidArgument
from airflow_monai.pulls.tasks import (
    NotYours,
    PullFile,
    PullState,
    PullTask,
    PullTasks,
    PullTaskUnknown,
    Report,
)
from airflow_monai.store.giving import Waiting
from airflow_monai.store.local import LocalStore
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus

PAYLOAD = "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e01"
RUN = f"monai__{PAYLOAD}"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def tasks(store: LocalStore, clock: Clock) -> PullTasks:
    return PullTasks(store, "OUTSIDE", clock)


def task(number: int = 1, waits: bool = True) -> PullTask:
    waiting = Waiting(PAYLOAD, "ct-lung", RUN, "to-pacs", -1, 1, f"answer-{number}")
    return PullTask(
        task_id=str(uuid.UUID(int=number)),
        sink="OUTSIDE",
        workflow_instance_id=str(uuid.UUID(int=9)),
        payload_id=PAYLOAD,
        dag_id="ct-lung",
        run_id=RUN,
        correlation_id="c",
        destinations=("PACS2",),
        files=(PullFile("a/1.dcm", "1.dcm", 10, "1.2.3"), PullFile("a/2.dcm", "2.dcm", 10, "1.2.4")),
        created=f"2026-01-01T00:00:0{number}+00:00",
        waiting=waiting if waits else None,
    )


def answer(store: LocalStore, number: int = 1) -> dict:
    key = RunFolder(store, PAYLOAD, "ct-lung", RUN).note_key("to-pacs", -1, 1, f"answer-{number}")
    return store.read_json(key)["body"] if store.exists(key) else {}


def test_the_oldest_is_taken_first_and_by_one_client(tasks: PullTasks) -> None:
    for number in (2, 1, 3):
        tasks.ask(task(number))
    first = tasks.take("one", 2, 60)
    assert [found.task_id for found, _ in first] == [task(1).task_id, task(2).task_id]
    assert [found.task_id for found, _ in tasks.take("two", 5, 60)] == [task(3).task_id]
    assert tasks.take("three", 5, 60) == []
    assert tasks.state(task(1)) is PullState.TAKEN


def test_many_clients_at_once_share_the_tasks_without_a_double(store: LocalStore) -> None:
    for number in range(1, 10):
        PullTasks(store, "OUTSIDE").ask(task(number))
    taken: list[str] = []

    def take() -> None:
        taken.extend(found.task_id for found, _ in PullTasks(store, "OUTSIDE").take("client", 9, 60))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(task(number).task_id for number in range(1, 10))


def test_a_report_reaches_who_waits_once(tasks: PullTasks, store: LocalStore) -> None:
    tasks.ask(task())
    ((found, take),) = tasks.take("one", 1, 60)
    files = {"a/1.dcm": "Success", "a/2.dcm": "ServiceError"}
    assert tasks.report(found, take.lease, Report("PartialFailure", files, "disk full")) is True
    assert answer(store) == {"status": "PartialFailure", "message": "disk full", "files": files}
    assert tasks.report(found, take.lease, Report("Success", {})) is False
    assert answer(store)["status"] == "PartialFailure"
    assert tasks.state(found) is PullState.DONE and list(tasks.open_ones()) == []
    tasks.ask(task())  # by a later try of the export task
    assert list(tasks.open_ones()) == []


def test_a_lease_that_is_over_returns_the_task_and_its_holder_cannot_report_for_another(
    tasks: PullTasks, clock: Clock
) -> None:
    tasks.ask(task())
    ((found, old),) = tasks.take("one", 1, 60)
    clock.later(61)
    assert tasks.state(found) is PullState.OPEN
    ((_, new),) = tasks.take("two", 1, 60)
    with pytest.raises(NotYours):
        tasks.report(found, old.lease, Report("Success", {}))
    with pytest.raises(NotYours):
        tasks.renew(found, old.lease, 60)
    assert tasks.report(found, new.lease, Report("Success", {})) is True


def test_a_late_report_counts_while_nobody_else_has_the_task(tasks: PullTasks, clock: Clock) -> None:
    tasks.ask(task())
    ((found, take),) = tasks.take("one", 1, 60)
    clock.later(3600)
    assert tasks.report(found, take.lease, Report("Success", {})) is True


def test_a_lease_is_renewed_and_given_back(tasks: PullTasks, clock: Clock) -> None:
    tasks.ask(task())
    ((found, take),) = tasks.take("one", 1, 60)
    clock.later(50)
    tasks.renew(found, take.lease, 60)
    clock.later(50)
    assert tasks.take("two", 1, 60) == []
    tasks.give_back(found, take.lease)
    ((_, new),) = tasks.take("two", 1, 60)
    assert new.lease != take.lease


def test_what_nobody_waits_for_is_not_offered(tasks: PullTasks, store: LocalStore) -> None:
    tasks.ask(task())
    folder = RunFolder(store, PAYLOAD, "ct-lung", RUN)
    ended = TaskRecord("to-pacs", "export", TaskStatus.SUCCEEDED, "x", generation=2)
    folder.write_record(ended)
    assert tasks.state(task()) is PullState.GONE
    assert tasks.take("one", 1, 60) == []
    assert list(store.children("pulls-open/OUTSIDE")) == []


def test_a_server_killed_after_the_report_was_written_leaves_it_to_the_next(
    tasks: PullTasks, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.ask(task())
    ((found, take),) = tasks.take("one", 1, 60)
    with monkeypatch.context() as killed:
        killed.setattr(tasks, "_finish", lambda task: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tasks.report(found, take.lease, Report("Success", {}))
    assert answer(store) == {}
    assert list(tasks.open_ones()) == []
    assert answer(store)["status"] == "Success"


def test_what_cannot_be_is_refused(tasks: PullTasks) -> None:
    tasks.ask(task())
    with pytest.raises(PullTaskUnknown):
        tasks.task("nothing")
    with pytest.raises(InvalidArgument):
        tasks.take("one", 1, 0)
    with pytest.raises(NotYours):
        tasks.report(task(), "guessé", Report("Success", {}))
    ((found, take),) = tasks.take("one", 1, 60)
    with pytest.raises(InvalidArgument, match="no file"):
        tasks.report(found, take.lease, Report("Success", {"../x": "Success"}))


def test_one_task_that_is_damaged_keeps_no_other(tasks: PullTasks, store: LocalStore) -> None:
    tasks.ask(task(1))
    tasks.ask(task(2))
    store.write(f"pulls/OUTSIDE/{task(1).task_id}/task.json", b"{")
    assert [found.task_id for found, _ in tasks.take("one", 5, 60)] == [task(2).task_id]
