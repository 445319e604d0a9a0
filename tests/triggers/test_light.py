"""What all light tasks share: tries, generations, records, what a person ends, and what nobody may read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from airflow_monai.errors import Fenced, MonaiError, ServiceRefused, ServiceUnavailable, StoreError
from airflow_monai.operators.light import LightOperator
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.tasks.run import Outcome, sortable_time
from airflow_monai.triggers.light import LightRun, LightTrigger
from airflow_monai.types import TaskRecord, TaskStatus
from tests.triggers.conftest import PAYLOAD_ID, SECRET, Tries, first_event

Work = Callable[[LightRun], Any]
WORK: dict[str, Work] = {}
CANCELLED: list[int] = []


BEGUN: list[int] = []


class TriedTrigger(LightTrigger):
    async def perform(self, run: LightRun) -> Outcome:
        BEGUN.append(run.run.generation)
        answer = WORK["work"](run)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def cancel(self, run: LightRun) -> None:
        CANCELLED.append(run.run.generation)


class TriedOperator(LightOperator):
    spec_type = "http"
    trigger_class = f"{__name__}.TriedTrigger"


def operator(work: Work, **more: Any) -> TriedOperator:
    WORK["work"] = work
    CANCELLED.clear()
    BEGUN.clear()
    with DAG("ct", schedule=None):
        return TriedOperator(task_id="call", task={}, **more)


def failing(error: BaseException) -> Work:
    def work(run: LightRun) -> Outcome:
        raise error

    return work


def recorded(tries: Tries, task: TriedOperator) -> TaskRecord:
    found = tries.record(task)
    assert found is not None
    return found


def test_success_keeps_all_of_the_result_in_the_store_and_gives_airflow_what_is_declared(tries: Tries) -> None:
    task = operator(lambda run: Outcome({"volume": 7, "name": SECRET}), result_keys=("volume",))
    event = tries.event(task)
    assert isinstance(event, TaskSuccessEvent) and event.xcoms
    assert event.xcoms["return_value"] == {"status": "Succeeded", "result": {"volume": 7}, "artifacts": {}}
    assert recorded(tries, task).result == {"volume": 7, "name": SECRET}


def test_templates_see_the_study_earlier_tasks_and_the_parameters_of_the_run(tries: Tries) -> None:
    texts = ["{{ context.input.patient_details.sex }}", "{{ context.params.limit }}", "{{ context.params.mode }}"]
    seen = []
    tries.conf = {"limit": 5, "other": "x"}
    task = operator(
        lambda run: seen.extend(run.resolve(texts)) or Outcome(), workflow_params={"limit": 1, "mode": "quick"}
    )
    tries.event(task)
    assert seen == ["F", "5", "quick"]


@pytest.mark.parametrize("retries", [0, 2])
def test_a_failure_that_another_try_may_mend_is_left_to_airflow(tries: Tries, retries: int) -> None:
    task = operator(failing(ServiceUnavailable("no service")), retries=retries)
    assert isinstance(tries.event(task), TaskFailedEvent)
    kept = recorded(tries, task)
    assert (kept.status, kept.error_msg, kept.stats) == (
        TaskStatus.FAILED,
        "no service",
        {"error_kind": "connection"},
    )


def test_a_final_failure_ends_the_task_although_it_has_tries_left(tries: Tries) -> None:
    task = operator(failing(ServiceRefused("not here")), retries=2)
    event = tries.event(task)
    assert not isinstance(event, TaskFailedEvent) and event.payload["failed"] == "not here"
    with pytest.raises(AirflowFailException, match="not here"):
        task.finish({}, event.payload)  # type: ignore[arg-type]


def test_a_final_failure_that_airflow_was_not_told_of_is_not_begun_anew(tries: Tries) -> None:
    """The worker that had to tell it was killed, and Airflow tries again; only then somebody clears the task."""
    task = operator(failing(ServiceRefused("not here")), retries=2)
    tries.event(task)
    event = (again := tries.next()).event(task)
    assert generations(tries, task) == 1
    with pytest.raises(AirflowFailException):
        task.finish({}, event.payload)  # type: ignore[arg-type]
    again.next().event(task)
    assert generations(tries, task) == 2


def test_a_final_failure_of_a_task_without_retries_needs_no_process(tries: Tries) -> None:
    assert isinstance(tries.event(operator(failing(ServiceRefused("not here")), retries=0)), TaskFailedEvent)


def test_the_author_may_say_otherwise(tries: Tries) -> None:
    task = operator(failing(ServiceRefused("not here")), retries=2, failure_policy={"refused": "retry"})
    assert isinstance(tries.event(task), TaskFailedEvent)


def test_what_an_unexpected_error_says_is_told_nowhere(tries: Tries, capfd: pytest.CaptureFixture[str]) -> None:
    task = operator(failing(RuntimeError(SECRET)), failure_policy={"internal": "fail"}, retries=1)
    event = tries.event(task)
    log = "".join(capfd.readouterr())
    assert "unexpected RuntimeError" in event.payload["failed"] and "test_light.py" in log
    assert SECRET not in event.payload["failed"] + log + str(recorded(tries, task))


def generations(tries: Tries, task: TriedOperator) -> int:
    return recorded(tries, task).generation


def test_a_retry_stays_in_its_generation_and_keeps_what_was_noted(tries: Tries) -> None:
    noted = []

    def work(run: LightRun) -> Outcome:
        noted.append(run.note_once("sent", {}))
        if run.run.try_number < 3:
            raise ServiceUnavailable("later")
        return Outcome()

    task = operator(work, retries=2)
    for one in (tries, tries.next(), tries.next().next()):
        one.event(task)
    assert noted == [True, False, False]
    assert generations(tries, task) == 1


async def cut_off(trigger: Any) -> None:
    """Airflow ends it when it has begun, and neither the trigger nor a person says a word."""
    running = asyncio.ensure_future(first_event(trigger))
    await begun()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def begun(times: int = 1) -> None:
    """Wait until the work has begun so often, and waits itself."""
    end = time.monotonic() + 60
    while len(BEGUN) < times:
        assert time.monotonic() < end, "the work does not begin"
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)


@pytest.mark.parametrize("given_up", [True, False], ids=["given up", "cleared"])
def test_a_try_that_airflow_gave_up_when_no_triggerer_was_there_is_not_begun_anew(
    tries: Tries, monkeypatch: pytest.MonkeyPatch, given_up: bool
) -> None:
    """By its own time limit, which is later than ours."""
    noted = []

    def work(run: LightRun) -> Any:
        noted.append(run.note_once("sent", {}))
        return asyncio.sleep(60) if run.run.try_number == 1 else Outcome()

    task = operator(work, timeout_minutes=1, retries=1)
    asyncio.run(cut_off(tries.trigger(task)))
    if given_up:
        monkeypatch.setattr("airflow_monai.operators.light.GRACE", timedelta(minutes=-1))
    tries.next().event(task)
    assert noted == [True, not given_up]
    assert generations(tries, task) == (1 if given_up else 2)


def test_a_task_that_ended_well_long_ago_is_begun_anew(tries: Tries, monkeypatch: pytest.MonkeyPatch) -> None:
    task = operator(lambda run: Outcome(), timeout_minutes=1, retries=1)
    tries.event(task)
    monkeypatch.setattr("airflow_monai.operators.light.GRACE", timedelta(minutes=-1))
    tries.next().event(task)
    assert generations(tries, task) == 2


def test_a_failure_that_cannot_be_kept_is_not_tried_again(tries: Tries, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try would know nothing of this one, and do again what may have been done."""

    def full(*_: Any) -> None:
        raise StoreError("The disk is full.")

    task = operator(failing(ServiceUnavailable("later")), retries=2)
    monkeypatch.setattr(TriedTrigger, "_keep_failure", full)
    event = tries.event(task)
    assert not isinstance(event, TaskFailedEvent)
    assert event.payload["failed"].startswith("later") and "Clear the task" in event.payload["failed"]


def test_two_triggerers_have_one_generation_when_the_first_stops_while_it_begins(tries: Tries) -> None:
    fence = Fence(
        RunFolder(tries.store, PAYLOAD_ID, "ct", tries.run_id), "call", -1, 1, sortable_time(tries.run_started)
    )
    assert fence.claim_after(lambda generation: False) == 1
    task = operator(lambda run: Outcome())
    tries.event(task)
    assert generations(tries, task) == 1


@pytest.mark.parametrize("error", [None, ServiceUnavailable("no"), ServiceRefused("no")])
def test_a_cleared_task_begins_a_new_generation(tries: Tries, error: MonaiError | None) -> None:
    """Also one that had failed for good, and one whose retries are used up."""
    task = operator(failing(error) if error else lambda run: Outcome(), retries=0)
    tries.event(task)
    tries.next().event(task)
    assert generations(tries, task) == 2


def test_a_try_whose_triggerer_died_goes_on_in_its_generation_also_when_the_run_was_cleared_beside_it(
    tries: Tries,
) -> None:
    """Clearing another task of the run gives the run a new start."""

    async def long(run: LightRun) -> Outcome:
        run.keep(job=7)
        return await asyncio.sleep(60, Outcome())

    task = operator(long)
    asyncio.run(cut_off(tries.trigger(task)))
    jobs = []
    WORK["work"] = lambda run: jobs.append(run.state["job"]) or Outcome()
    tries.run_started = "2026-01-03 00:00:00+00:00"
    tries.event(task)
    assert jobs == [7] and generations(tries, task) == 1


def test_what_airflow_did_not_hear_of_is_told_again_and_not_done_again(tries: Tries) -> None:
    done: list[int] = []
    task = operator(lambda run: done.append(1) or Outcome({"volume": 7}), result_keys=("volume",))
    first, second = tries.event(task), tries.event(task)
    assert first.xcoms == second.xcoms and len(done) == 1


@pytest.mark.parametrize("error", [ServiceRefused("not here"), ServiceUnavailable("not now"), RuntimeError("x")])
def test_so_is_a_failure(tries: Tries, error: Exception) -> None:
    done: list[int] = []

    def work(run: LightRun) -> Outcome:
        done.append(1)
        raise error

    task = operator(work, retries=1)
    first, second = tries.event(task), tries.event(task)
    assert type(first) is type(second) and len(done) == 1
    if isinstance(error, MonaiError):
        assert first.payload == second.payload
    tries.next().event(task)
    assert len(done) == 2, "a later try has to do the work"


def test_the_time_limit_counts_from_the_try_on_and_cancels(tries: Tries) -> None:
    task = operator(lambda run: asyncio.sleep(60), timeout_minutes=2 / 60, retries=0)
    assert isinstance(tries.event(task), TaskFailedEvent)
    assert recorded(tries, task).stats == {"error_kind": "timeout"} and CANCELLED == [1]
    WORK["work"] = lambda run: asyncio.sleep(0.2, Outcome())
    assert isinstance(tries.next().event(task), TaskSuccessEvent)
    limit = task.start_trigger_args.timeout
    assert limit is not None and limit > timedelta(minutes=5), "Airflow steps in only later"


async def killed(trigger: Any) -> None:
    """As Airflow does when a person ends the task: cancel the trigger, then ``on_kill``."""
    await cut_off(trigger)
    await trigger.on_kill()


def test_a_person_ends_it(tries: Tries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.triggers.light.OTHER_TRIGGERER_SECONDS", 0.1)
    task = operator(lambda run: asyncio.sleep(60))
    asyncio.run(killed(tries.trigger(task)))
    kept = recorded(tries, task)
    assert CANCELLED == [1] and (kept.status, kept.error_msg) == (TaskStatus.CANCELED, "ended by a person")
    datetime.fromisoformat(kept.start_time or "")


def test_what_another_triggerer_goes_on_with_is_left_alone(tries: Tries) -> None:
    task = operator(lambda run: asyncio.sleep(60))

    async def both() -> None:
        first = tries.trigger(task)
        running = asyncio.ensure_future(first_event(first))
        await begun(1)
        other = asyncio.ensure_future(first_event(tries.trigger(task)))
        await begun(2)
        running.cancel()
        await first.on_kill()
        other.cancel()

    asyncio.run(both())
    assert CANCELLED == [] and tries.record(task) is None


def test_a_cleared_task_leaves_the_record_to_its_new_try(tries: Tries) -> None:
    task = operator(lambda run: asyncio.sleep(60))

    async def cleared() -> None:
        first = tries.trigger(task)
        running = asyncio.ensure_future(first_event(first))
        await begun()
        running.cancel()
        WORK["work"] = lambda run: Outcome({"new": True})
        await first_event(tries.next().trigger(task))
        await first.on_kill()

    asyncio.run(cleared())
    kept = recorded(tries, task)
    assert CANCELLED == [1] and kept.generation == 2 and kept.status is TaskStatus.SUCCEEDED


def test_an_older_try_touches_nothing(tries: Tries) -> None:
    """Its triggerer had been cut off, say, while somebody cleared the task."""
    seen: list[str] = []

    async def work(run: LightRun) -> Outcome:
        await first_event(tries.next().trigger(task))
        with pytest.raises(Fenced):
            run.keep(job=1)
        seen.append("fenced")
        return Outcome({"old": True})

    def quick(run: LightRun) -> Any:
        return work(run) if run.run.try_number == 1 else Outcome({"new": True})

    task = operator(quick)
    tries.event(task)
    assert seen == ["fenced"] and recorded(tries, task).result == {"new": True}


def test_a_run_without_a_payload_says_what_to_do(tries: Tries) -> None:
    trigger = tries.trigger(operator(lambda run: Outcome(), retries=1))
    trigger.where["payload_id"] = ""
    event = asyncio.run(first_event(trigger))
    assert isinstance(event, TriggerEvent) and "Trigger it with a payload id" in event.payload["failed"]
