"""``http_async`` tasks against a real service: a job is started once, followed by whoever lives, and ended with the
task."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import TaskCallbackEvent
from airflow_monai.gateway.answers import AnswerTaker
from airflow_monai.local.processes import wait_until
from airflow_monai.operators.http import HttpJobOperator
from airflow_monai.store.callbacks import resolve_callback
from airflow_monai.store.giving import Reception
from airflow_monai.types import TaskRecord, TaskStatus
from tests.http_service import HttpService
from tests.triggers.conftest import Tries, first_event


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.triggers.light.OTHER_TRIGGERER_SECONDS", 0.1)
    monkeypatch.setattr("airflow_monai.triggers.http_async.CALLBACK_INTERVAL", 0.2)


class Jobs:
    """The jobs of the service that one test has started, told from others by a mark in their body."""

    def __init__(self, service: HttpService):
        self.service = service
        self.mark = str(time.time())

    def task(self, *, retries: int = 2, timeout: float | None = None, more: Any = (), **job: Any) -> HttpJobOperator:
        """A task whose job takes ``seconds`` and ends as ``end``."""
        body = {"mark": self.mark, **job}
        with DAG("ct", schedule=None):
            return HttpJobOperator(
                task_id="job",
                retries=retries,
                timeout_minutes=timeout,
                request={
                    "url": f"{self.service.url}/jobs",
                    "json": body,
                    "job_id": "job.id",
                    "status_url": "/jobs/{{ job.id }}",
                    "status_key": "job.state",
                    "poll_interval": "0.5",
                    "result_url": "/jobs/{{ job.id }}/result",
                    "cancel_url": "/jobs/{{ job.id }}",
                    **dict(more),
                },
            )

    def started(self) -> list[dict[str, Any]]:
        return [one for one in self.service.asked("/jobs", "POST") if self.mark in one["body"]]

    def polls(self) -> int:
        return len([one for one in self.service.asked("/jobs/", "GET") if not one["path"].endswith("/result")])

    def cancelled(self) -> int:
        return len(self.service.asked("/jobs/", "DELETE"))


@pytest.fixture
def jobs(service: HttpService) -> Jobs:
    return Jobs(service)


def record(tries: Tries, task: HttpJobOperator) -> TaskRecord:
    found = tries.record(task)
    assert found is not None
    return found


def succeeded(tries: Tries, task: HttpJobOperator) -> dict[str, Any]:
    event = tries.event(task)
    assert isinstance(event, TaskSuccessEvent), event.payload
    return dict(record(tries, task).result)


def failed(tries: Tries, task: HttpJobOperator) -> tuple[str, bool]:
    event = tries.event(task)
    assert not isinstance(event, TaskSuccessEvent)
    return record(tries, task).stats["error_kind"], isinstance(event, TaskFailedEvent)


def test_a_job_is_followed_to_its_result(tries: Tries, jobs: Jobs) -> None:
    before, begun = jobs.polls(), time.monotonic()

    def finish() -> None:
        assert wait_until(lambda: jobs.polls() >= before + 2, 60)
        jobs.service.finish(jobs.service.asked("/jobs/", "GET")[-1]["path"])

    worker = threading.Thread(target=finish)
    worker.start()
    assert succeeded(tries, jobs.task(seconds=600))["volume"] == 99
    worker.join()
    polls = len([one for one in jobs.service.asked("/jobs/", "GET") if not one["path"].endswith(("result", "finish"))])
    assert len(jobs.started()) == 1 and polls - before <= 2 + (time.monotonic() - begun) / 0.5


def test_the_last_status_may_be_the_result_and_the_location_the_place_of_the_status(tries: Tries, jobs: Jobs) -> None:
    task = jobs.task(seconds=0, more={"results": {"state": "job.state", "progress": "progress"}})
    for name in ("job_id", "status_url", "result_url", "cancel_url"):
        del task.light_task["request"][name]
    assert succeeded(tries, task) == {"state": "Done", "progress": 0.5, "http_status": 200}


@pytest.mark.parametrize(("end", "kind"), [("Error", "exit_code"), ("CANCELLED", "exit_code")])
def test_a_job_that_ends_badly(tries: Tries, jobs: Jobs, end: str, kind: str) -> None:
    assert failed(tries, jobs.task(end=end)) == (kind, False)
    assert "has ended with status" in (record(tries, jobs.task()).error_msg or "")


def test_own_words_for_the_end(tries: Tries, jobs: Jobs) -> None:
    assert failed(tries, jobs.task(end="Unheard", more={"failed": ["unheard"]})) == ("exit_code", False)


def test_a_retry_after_a_bad_end_starts_another_job_where_the_author_wants_that(tries: Tries, jobs: Jobs) -> None:
    task = jobs.task(end="Failed", more={"idempotency_key": "true"})
    task.light_task["failure_policy"] = {"exit_code": "retry"}
    assert failed(tries, task) == ("exit_code", True)
    task.light_task["request"]["json"]["end"] = "Done"
    assert succeeded(tries.next(), task)["volume"] == 99
    first, second = (one["headers"]["idempotency-key"] for one in jobs.started())
    assert second == f"{first}-2"


def test_a_retry_after_a_lost_connection_goes_on_with_the_job(
    tries: Tries, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_monai.triggers.patience.PATIENCE", 0.2)
    task = jobs.task(seconds=0.5)
    task.light_task["request"]["status_url"] = "/status/503"
    assert failed(tries, task) == ("connection", True)
    task.light_task["request"]["status_url"] = "/jobs/{{ job.id }}"
    assert succeeded(tries.next(), task)["volume"] == 99
    assert len(jobs.started()) == 1


def test_a_service_that_is_away_for_a_while_is_asked_again(tries: Tries, jobs: Jobs) -> None:
    assert succeeded(tries, jobs.task(more={"result_url": f"/flaky/{jobs.mark}"}))["volume"] == 3
    assert record(tries, jobs.task()).try_number == 1


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"job_id": "job.nothing"}, "refused"),
        ({"status_url": "/status/404"}, "refused"),
        ({"status_url": "/raw?body=nojson"}, "refused"),
        ({"result_url": "/status/410"}, "refused"),
        ({"url": "/nowhere"}, "refused"),
    ],
)
def test_answers_that_cannot_be_used(tries: Tries, jobs: Jobs, more: dict[str, str], kind: str) -> None:
    if "url" in more:
        more = {"url": jobs.service.url + more["url"]}
    assert failed(tries, jobs.task(more=more)) == (kind, False)


@pytest.mark.parametrize("phase", ["start", "poll"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_triggerer_that_is_killed(tries: Tries, jobs: Jobs, phase: str, idempotent: bool) -> None:
    """Whatever it was doing: the next one starts no second job."""
    more = {"idempotency_key": "true"} if idempotent else {"timeout_seconds": "1.5"}
    task = jobs.task(seconds=2.5, start_seconds=30 if phase == "start" else 0, more=more)
    polls = jobs.polls()
    life = tries.living(task)
    assert wait_until(lambda: bool(jobs.started()) and (phase == "start" or jobs.polls() > polls), 60)
    life.kill()
    life.join()
    if phase == "start" and not idempotent:
        assert failed(tries, task) == ("refused", False)
        assert "is not repeated" in (record(tries, task).error_msg or "")
        assert len(jobs.started()) == 1
        return
    result = succeeded(tries, task)
    keys = {one["headers"].get("idempotency-key") for one in jobs.started()}
    assert result["volume"] == 99 and len(keys) == 1
    assert len(jobs.started()) == (2 if phase == "start" else 1), "by its key the service knows the second one"


async def ended_by_a_person(trigger: Any, when: Any) -> None:
    running = asyncio.ensure_future(first_event(trigger))
    while not await asyncio.to_thread(when):
        await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await trigger.on_kill()


@pytest.mark.parametrize("phase", ["start", "poll"])
def test_a_person_ends_it(tries: Tries, jobs: Jobs, phase: str) -> None:
    """Also while the job is being started: its id is awaited, so that it can be cancelled."""
    task = jobs.task(seconds=60, start_seconds=0.8 if phase == "start" else 0)
    polls, cancelled = jobs.polls(), jobs.cancelled()
    when = (lambda: bool(jobs.started())) if phase == "start" else (lambda: jobs.polls() > polls)
    asyncio.run(ended_by_a_person(tries.trigger(task), when))
    assert jobs.cancelled() == cancelled + 1
    assert record(tries, task).status is TaskStatus.CANCELED


def test_the_time_limit_ends_the_job(tries: Tries, jobs: Jobs) -> None:
    cancelled = jobs.cancelled()
    task = jobs.task(seconds=60, timeout=3 / 60)
    assert failed(tries, task) == ("timeout", False)
    assert jobs.cancelled() == cancelled + 1


def test_a_service_that_cannot_cancel_does_not_hold_the_task(tries: Tries, jobs: Jobs) -> None:
    task = jobs.task(seconds=60, timeout=0.8 / 60, more={"cancel_url": "/drop"})
    assert failed(tries, task) == ("timeout", False)


def callback_task(jobs: Jobs, **more: Any) -> HttpJobOperator:
    task = jobs.task(retries=0)
    request = task.light_task["request"]
    for name in ("status_url", "poll_interval", "result_url"):
        del request[name]
    request |= {"wait": "callback", "status_key": "status", **more}
    request["json"] |= {"callback": "https://airflow.example/callbacks/{{ callback.token }}"}
    return task


def test_a_callback_ends_it_once(tries: Tries, jobs: Jobs) -> None:
    task = callback_task(jobs)
    told: list[Reception] = []

    def call_back() -> None:
        assert wait_until(lambda: len(jobs.started()) == 1, 60)
        token = json.loads(jobs.started()[0]["body"])["callback"].rsplit("/", 1)[1]
        for volume in (5, 6):
            told.append(resolve_callback(tries.store, token, {"status": "done", "volume": volume}))

    caller = threading.Thread(target=call_back)
    caller.start()
    assert succeeded(tries, task) == {"status": "done", "volume": 5, "http_status": 200}
    caller.join()
    assert told == [Reception.TAKEN, Reception.REPEATED]


def test_a_request_says_where_to_call_back(tries: Tries, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/below/")
    task = callback_task(jobs)
    task.light_task["request"]["json"]["callback"] = "{{ callback.url }}"
    life = tries.living(task)
    assert wait_until(lambda: len(jobs.started()) == 1, 60)
    told = json.loads(jobs.started()[0]["body"])["callback"]
    life.kill()
    life.join()
    assert told == f"https://airflow.example/below/monai/callbacks/{state(tries, task)['token1']}"


def test_without_an_address_of_the_site_nothing_is_started(
    tries: Tries, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "")
    task = callback_task(jobs)
    task.light_task["request"]["json"]["callback"] = "{{ callback.url }}"
    assert failed(tries, task)[0] == "invalid" and not jobs.started()
    assert "[monai] callback_url" in (record(tries, task).error_msg or "")


@pytest.mark.parametrize("by", ["token", "execution"])
def test_an_answer_by_message_ends_it(tries: Tries, jobs: Jobs, by: str) -> None:
    task = callback_task(jobs, idempotency_key="true")
    taker = AnswerTaker(tries.store, Buckets({}))

    def call_back() -> None:
        assert wait_until(lambda: len(jobs.started()) == 1, 60)
        (asked,) = jobs.started()
        token = json.loads(asked["body"])["callback"].rsplit("/", 1)[1]
        own_key = asked["headers"]["idempotency-key"]
        taker.take(
            TaskCallbackEvent(
                workflow_instance_id="w",
                task_id="t",
                execution_id=own_key if by == "execution" else "e",
                correlation_id="c",
                identity=token if by == "token" else "i",
                metadata={"status": "done", "volume": 7},
            )
        )

    caller = threading.Thread(target=call_back)
    caller.start()
    assert succeeded(tries, task) == {"status": "done", "volume": 7, "http_status": 200}
    caller.join()


def test_a_callback_that_came_while_no_triggerer_lived(tries: Tries, jobs: Jobs) -> None:
    task = callback_task(jobs)
    life = tries.living(task)
    assert wait_until(lambda: tries.store.exists(tries.note(task, "state")) and "job" in state(tries, task), 60)
    life.kill()
    life.join()
    token = state(tries, task)["token1"]
    assert resolve_callback(tries.store, token, {"status": "error"}) is Reception.TAKEN
    assert failed(tries, task) == ("exit_code", True)
    assert len(jobs.started()) == 1


def test_a_callback_on_the_way_is_no_success(tries: Tries, jobs: Jobs) -> None:
    task = callback_task(jobs)
    life = tries.living(task)
    assert wait_until(lambda: tries.store.exists(tries.note(task, "state")) and "job" in state(tries, task), 60)
    life.kill()
    life.join()
    resolve_callback(tries.store, state(tries, task)["token1"], {"status": "running"})
    assert failed(tries, task)[0] == "refused"


def state(tries: Tries, task: HttpJobOperator) -> dict[str, Any]:
    return tries.store.read_json(tries.note(task, "state"))
