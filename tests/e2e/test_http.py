"""Tasks that call services, in a real Airflow: they cost no process, survive the triggerer's death, and end what they
started."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import manifest_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import PatientDetails, Payload, TaskRecord, TaskStatus
from tests.e2e.helpers import add_workflows, store_of, wait_for_state, workflow
from tests.http_service import HttpService, http_service

PAYLOAD_ID = "0a1b2c3d-0000-4000-8000-0000000e2e01"
RUN = "by-hand"
SEX = "{{ context.input.patient_details.sex }}"
VOLUME = "{{ context.executions.score.result.volume }}"
WAY, AGAIN, REFUSED, JOB, ENDED = "http-way", "http-again", "http-refused", "http-job", "http-ended"
CALLED = "http-called-back"
BY_HAND = "http-hand-written"
HAND_WRITTEN = """\
from airflow.sdk import dag, task

from airflow_monai.operators.http import HttpRequestOperator


@dag(dag_id="{dag_id}", schedule=None, is_paused_upon_creation=False)
def made_by_hand():
    @task
    def find() -> str:
        return "{payload_id}"

    body = {{"sex": "{{{{ context.input.patient_details.sex }}}}", "by": "hand"}}
    request = {{"url": "{url}/echo", "json": body}}
    HttpRequestOperator(task_id="tell", request=request, payload_id=find())


made_by_hand()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpService]:
    with http_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def started(stack: LocalStack, service: HttpService) -> None:
    """All runs, started at once by hand on one payload."""
    times = dict.fromkeys(("received_first", "received_last", "closed"), "2026-01-01T00:00:00+00:00")
    payload = Payload(PAYLOAD_ID, "1.2.3", "HTTP", ("CT01",), 0, (), **times, patient=PatientDetails(sex="F"))
    store_of(stack).write_json(manifest_key(PAYLOAD_ID), payload.to_dict())
    credential = {"id": "e2e_service", "type": "bearer", "host": service.url, "secret": "s3cret-token"}
    made = requests.post(
        f"{stack.ui}/monai/workflow-manager/credentials",
        json=credential,
        auth=(USER, stack.secrets.password),
        timeout=60,
    )
    assert made.status_code == 201, made.text
    add_workflows(
        stack,
        workflow(WAY, "HTTP_W", *way(service)),
        workflow(AGAIN, "HTTP_A", call(service, "/flaky/e2e", retries=1, retry_delay="1s")),
        workflow(REFUSED, "HTTP_R", call(service, "/status/404", retries=2, retry_delay="1s")),
        workflow(JOB, "HTTP_J", job(service, seconds=900)),
        workflow(ENDED, "HTTP_E", job(service, seconds=600)),
        workflow(CALLED, "HTTP_C", calling_back(service)),
    )
    source = HAND_WRITTEN.format(dag_id=BY_HAND, payload_id=PAYLOAD_ID, url=service.url)
    assert stack.options.dags is not None
    (stack.options.dags / f"{BY_HAND}.py").write_text(source)
    for dag_id in (JOB, ENDED, CALLED, WAY, AGAIN, REFUSED):
        body = {"dag_run_id": RUN, "logical_date": None, "conf": {"payload_id": PAYLOAD_ID}}
        stack.api.call("POST", f"/dags/{dag_id}/dagRuns", body)


def call(service: HttpService, path: str, **more: Any) -> dict[str, Any]:
    return {"id": "call", "type": "http", "args": {"url": service.url + path}, **more}


def way(service: HttpService) -> tuple[dict[str, Any], ...]:
    """A router, a request whose answer decides, and another one that passes it on."""
    large = {"name": "report", "conditions": [f"{VOLUME} > '500'"]}
    small = {"name": "never", "conditions": [f"{VOLUME} <= '500'"]}
    score = {"connection": "e2e_service", "path": "/result", "params": {"sex": SEX}}
    report = {"url": f"{service.url}/echo", "json": {"volume": VOLUME, "sex": SEX}}
    return (
        {"id": "route", "type": "router", "task_destinations": [{"name": "score", "conditions": [f"{SEX} == 'F'"]}]},
        {"id": "score", "type": "http", "args": score, "task_destinations": [large, small]},
        {"id": "report", "type": "http", "args": report},
        {"id": "never", "type": "router"},
    )


def job(service: HttpService, seconds: float) -> dict[str, Any]:
    args = {
        "url": f"{service.url}/jobs",
        "json": {"seconds": seconds},
        "job_id": "job.id",
        "status_url": "/jobs/{{ job.id }}",
        "status_key": "job.state",
        "poll_interval": "1s",
        "result_url": "/jobs/{{ job.id }}/result",
        "cancel_url": "/jobs/{{ job.id }}",
    }
    return {"id": "work", "type": "http_async", "args": args}


def calling_back(service: HttpService) -> dict[str, Any]:
    body = {"seconds": 300, "tell": "{{ callback.url }}"}
    args = {"url": f"{service.url}/jobs", "json": body, "wait": "callback", "results": {"volume": "volume_ml"}}
    return {"id": "work", "type": "http_async", "args": args}


def kept(stack: LocalStack, dag_id: str, task_id: str) -> TaskRecord:
    found = RunFolder(store_of(stack), PAYLOAD_ID, dag_id, RUN).record(task_id)
    assert found is not None
    return found


def instances(stack: LocalStack, dag_id: str) -> dict[str, dict[str, Any]]:
    return {ti["task_id"]: ti for ti in stack.task_instances(dag_id, RUN)}


def jobs_of(service: HttpService, seconds: float) -> list[dict[str, Any]]:
    return [one for one in service.asked("/jobs", "POST") if f'"seconds": {seconds:g}' in one["body"]]


def test_a_dag_written_by_hand_hands_the_payload_of_another_task_on(stack: LocalStack, service: HttpService) -> None:
    stack.wait_for(lambda: stack.api.dag(BY_HAND), seconds=180, what=f"DAG {BY_HAND}")
    stack.api.call("POST", f"/dags/{BY_HAND}/dagRuns", {"dag_run_id": RUN, "logical_date": None, "conf": {}})
    assert stack.wait_for_run(BY_HAND, RUN)["state"] == "success"
    told = [json.loads(one["body"]) for one in service.asked("/echo")]
    assert told.count({"sex": "F", "by": "hand"}) == 1


def test_an_answer_decides_the_way_and_is_passed_on(stack: LocalStack, service: HttpService) -> None:
    assert stack.wait_for_run(WAY, RUN)["state"] == "success"
    assert stack.states(WAY, RUN) == {
        "route": "success",
        "route.to.score": "success",
        "score": "success",
        "score.to.report": "success",
        "score.to.never": "skipped",
        "report": "success",
        "never": "skipped",
    }
    (asked,) = service.asked("/result")
    assert asked["headers"]["authorization"] == "Bearer s3cret-token" and asked["query"] == [["sex", "F"]]
    assert json.loads(kept(stack, WAY, "report").result["body"]) == {"volume": 712.5, "sex": "F"}


def test_a_service_that_failed_is_asked_again_by_airflow(stack: LocalStack, service: HttpService) -> None:
    assert stack.wait_for_run(AGAIN, RUN)["state"] == "success"
    assert instances(stack, AGAIN)["call"]["try_number"] == 2 and len(service.asked("/flaky/e2e")) == 2


def test_a_refusal_is_final_although_there_are_retries(stack: LocalStack, service: HttpService) -> None:
    assert stack.wait_for_run(REFUSED, RUN)["state"] == "failed"
    assert instances(stack, REFUSED)["call"]["try_number"] == 1 and len(service.asked("/status/404")) == 1
    assert kept(stack, REFUSED, "call").stats["error_kind"] == "refused"


def test_a_service_calls_back(stack: LocalStack, service: HttpService) -> None:
    (asked,) = stack.wait_for(lambda: jobs_of(service, 300), seconds=180, what="the job")
    place = json.loads(asked["body"])["tell"]
    assert place.startswith(f"{stack.ui}/monai/callbacks/")
    told = [requests.post(place, json={"status": "done", "volume_ml": volume}, timeout=30) for volume in (7, 8)]
    assert [(one.status_code, one.json()["state"]) for one in told] == [(200, "taken"), (200, "repeated")]
    assert requests.post(place[:-1], json={}, timeout=30).status_code == 404
    assert stack.wait_for_run(CALLED, RUN)["state"] == "success"
    assert kept(stack, CALLED, "work").result["volume"] == 7


def test_a_person_ends_a_job(stack: LocalStack, service: HttpService) -> None:
    (path,) = stack.wait_for(lambda: service.started(600), seconds=120, what="the job")
    stack.wait_for(lambda: service.asked(path, "GET"), seconds=120, what="a question about it")
    stack.api.call("PATCH", f"/dags/{ENDED}/dagRuns/{RUN}/taskInstances/work", {"new_state": "failed"})
    (cancelled,) = stack.wait_for(lambda: service.asked("/jobs/", "DELETE"), seconds=120, what="its cancellation")
    assert cancelled["path"] == path

    def is_told() -> bool:
        return kept_or_none(stack) is TaskStatus.CANCELED

    stack.wait_for(is_told, seconds=120, what="the record")
    assert instances(stack, ENDED)["work"]["state"] == "failed" and len(jobs_of(service, 600)) == 1


def kept_or_none(stack: LocalStack) -> TaskStatus | None:
    found = RunFolder(store_of(stack), PAYLOAD_ID, ENDED, RUN).record("work")
    return found.status if found else None


def test_the_triggerer_is_killed_while_it_follows_a_job(stack: LocalStack, service: HttpService) -> None:
    parsed = last_parsed(stack)
    wait_for_state(stack, JOB, RUN, "work", "deferred")
    stack.wait_for(lambda: jobs_of(service, 900), seconds=180, what="the job")
    stack.kill("triggerer", group=True)
    polls = len(service.asked("/jobs/", "GET"))
    stack.restart("triggerer")
    last = stack.wait_for(lambda: service.asked("/jobs/", "GET")[polls:], seconds=240, what="its next question")[-1]
    service.finish(last["path"])
    assert stack.wait_for_run(JOB, RUN)["state"] == "success"
    assert len(jobs_of(service, 900)) == 1
    record = kept(stack, JOB, "work")
    assert record.result["volume"] == 99 and (record.generation, record.try_number) == (1, 1)
    assert last_parsed(stack) == parsed, "what a trigger ends with must not have files parsed without end"


def last_parsed(stack: LocalStack) -> list[str]:
    return [stack.api.call("GET", f"/dags/{dag_id}/details")["last_parsed_time"] for dag_id in (AGAIN, REFUSED)]


def test_none_of_this_has_cost_a_worker_process(stack: LocalStack) -> None:
    """Of all these tasks the executor was given one: that which is not to be tried again, though it could be."""
    given = re.findall(r"<TaskInstance: (http-[a-z]+)\.(\S+) ", enqueued(stack))
    assert set(given) == {(REFUSED, "call")}
    for dag_id in (WAY, AGAIN, JOB, ENDED, CALLED):
        for task_id, ti in instances(stack, dag_id).items():
            assert (ti["pid"], ti["hostname"], ti["queued_when"]) == (None, "", None), f"{dag_id}.{task_id}"
    assert instances(stack, REFUSED)["call"]["pid"], "else these facts tell nothing"


def enqueued(stack: LocalStack) -> str:
    """What the scheduler says that it gave to its executor."""
    lines = (stack.logs / "scheduler.log").read_text().splitlines()
    return "\n".join(line for line in lines if "Trying to enqueue tasks" in line)


def test_the_logs_tell_what_was_called_and_nothing_of_the_patient(stack: LocalStack, service: HttpService) -> None:
    texts = [path.read_text() for path in stack.logs.rglob("*.log*") if path.is_file()]
    everything = "\n".join(texts)
    assert "GET /result (connection e2e_service)" in everything
    for secret in ("sex=F", "s3cret"):
        assert secret not in everything
