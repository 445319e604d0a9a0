"""Looking at what has changed in Airflow, over HTTP; Airflow is a stand-in (see :mod:`tests.lifecycle.living`)."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_changes import AirflowChanges
from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.lifecycle.observed import AirflowAway
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import run_id_of
from airflow_monai.store.requests import PayloadRequest, request_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.lifecycle.conftest import journal_of, watcher
from tests.lifecycle.living import LivingAirflow

PAYLOAD = "0b8ee4f2-0000-4000-8000-00000000000{}"
WHOLE = [
    "workflow.started", "task.started route", "task.completed route", "task.started segment", "task.completed segment",
    "task.started export", "task.completed export", "workflow.completed",
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def told(events: list[Happening]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for event in events:
        found[event.run_id].append(f"{event.what.value} {event.task_id}".strip())
    return dict(found)


def test_a_run_is_told_of_as_it_goes(living: LivingAirflow, store: LocalStore):
    run_id = run_id_of(PAYLOAD.format(1))
    watch = watcher(store)
    living.begin(run_id, state="queued")
    assert watch.look() == 0
    living.begin(run_id)
    assert watch.look() == 1
    living.task(run_id, "route", "success", tries=0)
    living.task(run_id, "route.to.segment", "success", tries=0)
    living.task(run_id, "segment", "running")
    assert watch.look() == 3
    assert watch.look() == 0
    living.task(run_id, "segment", "success")
    living.task(run_id, "export", "running")
    living.task(run_id, "export", "success")
    living.end(run_id)
    assert watch.look() == 4
    assert told(journal_of(store)) == {run_id: WHOLE}
    last = journal_of(store)[-1]
    assert (last.workflow, last.payload_id, last.status) == ("CT lung", PAYLOAD.format(1), TaskStatus.SUCCEEDED)


def test_what_happened_while_nobody_looked_is_told(living: LivingAirflow, store: LocalStore):
    first = watcher(store)
    first.look()
    first.stop()
    for number in range(9):
        living.go_through(run_id_of(PAYLOAD.format(number)))
    watcher(store).look()
    assert told(journal_of(store)) == {run_id_of(PAYLOAD.format(number)): WHOLE for number in range(9)}


def test_more_than_a_page_at_once(living: LivingAirflow, store: LocalStore):
    watch = watcher(store)
    for number in range(130):
        living.go_through(f"manual__{number}__x", "ct-lung")
        living.life["ct-lung", f"manual__{number}__x"]["conf"] = {"payload_id": PAYLOAD.format(1)}
    watch.look()
    assert told(journal_of(store)) == {f"manual__{number}__x": WHOLE for number in range(130)}


def test_runs_of_others_and_on_no_payload_are_passed_over(living: LivingAirflow, store: LocalStore):
    living.go_through(run_id_of(PAYLOAD.format(1)), "etl")
    living.go_through("manual__2026", "ct-lung")
    watch = watcher(store)
    watch.look()
    watch.look()
    assert journal_of(store) == []
    assert living.asked["dags"] == 1  # a DAG of others is asked for once in a while


def test_two_that_look_at_once_tell_everything_once(living: LivingAirflow, store: LocalStore):
    one, other = watcher(store), watcher(store)
    run_id = run_id_of(PAYLOAD.format(1))
    living.begin(run_id)
    for task_id in ("segment", "export"):
        living.task(run_id, task_id, "running")
        one.look()
        other.look()
        living.task(run_id, task_id, "success")
        other.look()
    living.end(run_id)
    one.look()
    other.look()
    assert told(journal_of(store)) == {run_id: [WHOLE[0], *WHOLE[3:]]}


def test_a_cleared_task_is_told_of_again(living: LivingAirflow, store: LocalStore):
    run_id = run_id_of(PAYLOAD.format(1))
    watch = watcher(store)
    living.go_through(run_id)
    watch.look()
    living.task(run_id, "export", "", tries=1)
    living.begin(run_id)
    watch.look()
    living.task(run_id, "export", "running", tries=2)
    living.task(run_id, "export", "failed", tries=2)
    living.end(run_id, "failed")
    watch.look()
    assert told(journal_of(store)) == {run_id: [*WHOLE, WHOLE[0], *WHOLE[-3:]]}
    assert len({event.id for event in journal_of(store)}) == 12


def test_old_runs_cost_nothing_and_a_note_on_one_tells_nothing(living: LivingAirflow, store: LocalStore):
    run_id = run_id_of(PAYLOAD.format(1))
    living.go_through(run_id)
    old = (datetime.now(timezone.utc) - timedelta(days=30)).isoformat()
    living.life["ct-lung", run_id] |= {"start_date": old, "end_date": old, "updated": old}
    for item in living.tasks.values():
        item["updated"] = old
    watch = watcher(store)
    for _ in range(5):
        watch.look()
    assert living.asked["dagRuns"] == 5 and living.asked["taskInstances"] == 5
    living.touch(run_id)
    watch.look()
    assert journal_of(store) == []


def test_when_nothing_goes_on_a_look_is_one_request(living: LivingAirflow, store: LocalStore):
    from tests.lifecycle.happenings import Clock

    clock = Clock()
    watch = watcher(store)
    watch._clock = clock
    watch._active_at = watch._looked_at_tasks = watch._deep_at = clock()
    clock.now += 40
    for _ in range(20):
        clock.now += 1.4
        watch.look()
    assert living.asked["dagRuns"] == 20
    assert living.asked["taskInstances"] == 1


def test_while_airflow_is_away_nothing_is_missed(living: LivingAirflow, store: LocalStore):
    watch = watcher(store)
    watch.look()
    living.down = True
    with pytest.raises(AirflowAway, match="503"):
        watch.look()
    living.go_through(run_id_of(PAYLOAD.format(1)))
    living.down = False
    watch.look()
    assert told(journal_of(store)) == {run_id_of(PAYLOAD.format(1)): WHOLE}


def test_while_the_store_is_away_no_task_is_missed(
    living: LivingAirflow, store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    """The run itself does not change meanwhile: one task ends, and the next waits for a person."""
    run_id = run_id_of(PAYLOAD.format(1))
    watch = watcher(store)
    living.begin(run_id)
    living.task(run_id, "segment", "running")
    watch.look()
    for one in (living.life["ct-lung", run_id], *living.tasks.values()):
        one["updated"] = (datetime.now(timezone.utc) - timedelta(minutes=3)).isoformat()
    watch._cursor = watch._tasks_from = datetime.now(timezone.utc) - timedelta(minutes=1)
    living.task(run_id, "segment", "success")
    living.task(run_id, "export", "deferred")
    for item in living.tasks.values():  # longer ago than looks overlap, when the store is back
        item["updated"] = (datetime.now(timezone.utc) - timedelta(seconds=30)).isoformat()

    def away(*args: object, **kwargs: object) -> bool:
        raise StoreError("The store is away.")

    with monkeypatch.context() as broken:
        broken.setattr(store, "create_json", away)
        with pytest.raises(StoreError):
            watch.look()
    watch.look()
    assert told(journal_of(store)) == {run_id: [WHOLE[0], *WHOLE[3:6], "task.updated export"]}


def test_what_happened_on_a_long_weekend_is_told_bit_by_bit(living: LivingAirflow, store: LocalStore):
    now = datetime.now(timezone.utc)
    names = [run_id_of(PAYLOAD.format(number)) for number in range(3)]
    for hours, name in zip((70, 40, 10), names, strict=True):
        ended = (now - timedelta(hours=hours)).isoformat()
        living.go_through(name)
        living.life["ct-lung", name] |= {"start_date": ended, "end_date": ended, "updated": ended}
    living.touch(names[1])  # somebody made a note on it just now
    watch = watcher(store, timedelta(hours=72))
    looks = 0
    while watch.look() or watch.is_behind:
        looks += 1
        first = told(journal_of(store)) if looks == 3 else {}
        assert looks > 3 or names[1] not in first
    assert 70 < looks < 80
    assert told(journal_of(store)) == dict.fromkeys(names, WHOLE)


def test_the_correlation_id_is_the_request_s(living: LivingAirflow, store: LocalStore):
    asked = PayloadRequest("CTLUNG", ("CT01",), "bucket", (), "from-the-request")
    store.write_json(request_key(PAYLOAD.format(1)), asked.to_dict())
    living.go_through(run_id_of(PAYLOAD.format(1)))
    living.go_through(run_id_of(PAYLOAD.format(2)))
    watcher(store).look()
    ids: dict[str, set[str]] = defaultdict(set)
    for event in journal_of(store):
        ids[event.payload_id].add(event.correlation_id)
    assert ids[PAYLOAD.format(1)] == {"from-the-request"}
    (own,) = ids[PAYLOAD.format(2)]
    assert own and own != "from-the-request"


def test_a_run_that_a_person_cancelled_says_so(living: LivingAirflow, store: LocalStore):
    run_id = run_id_of(PAYLOAD.format(1))
    living.begin(run_id)
    at = datetime.now(timezone.utc).isoformat()
    living.life["ct-lung", run_id]["conf"] = {"monai_cancelled": {"at": at, "by": "anna", "clear_number": 0}}
    living.end(run_id, "failed")
    watcher(store).look()
    assert journal_of(store)[-1].what is What.WORKFLOW_COMPLETED
    assert journal_of(store)[-1].status is TaskStatus.CANCELED


def test_a_run_that_is_gone_is_none(living: LivingAirflow):
    changes = AirflowChanges(AirflowApi("monai_airflow"))
    assert changes.run("ct-lung", "nowhere") is None
    assert list(changes.tasks_of("ct-lung", "nowhere")) == []


def test_a_review_that_says_no_has_failed_in_part(living: LivingAirflow, store: LocalStore):
    run_id = run_id_of(PAYLOAD.format(1))
    living.begin(run_id)
    living.task(run_id, "look", "running")
    living.task(run_id, "look", "success")
    living.tasks["ct-lung", run_id, "look", -1]["operator_name"] = "ClinicalReviewOperator"
    folder = RunFolder(store, PAYLOAD.format(1), "ct-lung", run_id)
    folder.write_record(TaskRecord("look", "clinical_review", TaskStatus.PARTIAL_FAIL, "e"))
    watcher(store).look()
    assert journal_of(store)[-1].status is TaskStatus.PARTIAL_FAIL
