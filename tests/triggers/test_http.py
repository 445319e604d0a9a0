"""``http`` tasks against a real service: what is sent, what becomes of the answer, and that nothing is sent twice."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from airflow_monai.hooks.http_client import AnswerLost, HttpAnswer, HttpClient, HttpRequest, NotSent
from airflow_monai.hooks.http_endpoint import Endpoint
from airflow_monai.hooks.http_hosts import HostRules
from airflow_monai.local.ports import choose
from airflow_monai.local.processes import wait_until
from airflow_monai.operators.base import sortable_time
from airflow_monai.operators.http import HttpRequestOperator
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.triggers.http_exchange import MAX_RETRY_AFTER
from airflow_monai.types import TaskRecord, TaskStatus
from tests.http_service import HttpService
from tests.triggers.conftest import PAYLOAD_ID, SECRET, Tries

PATIENT = "{{ context.input.patient_details.id }}"
NAME = "{{ context.input.patient_details.name }}"


def http(
    service: HttpService, path: str, *, retries: int = 2, outputs: Any = (), **request: Any
) -> HttpRequestOperator:
    with DAG("ct", schedule=None):
        return HttpRequestOperator(
            task_id="call",
            request={"url": service.url + path, **request},
            outputs=outputs,
            retries=retries,
            result_keys=("volume", "http_status"),
        )


def succeeded(tries: Tries, task: HttpRequestOperator) -> TaskRecord:
    event = tries.event(task)
    assert isinstance(event, TaskSuccessEvent), event.payload
    kept = tries.record(task)
    assert kept is not None and kept.status is TaskStatus.SUCCEEDED
    return kept


def failed(tries: Tries, task: HttpRequestOperator) -> tuple[str, bool]:
    """The kind of the failure, and whether Airflow is to try again."""
    event = tries.event(task)
    assert not isinstance(event, TaskSuccessEvent)
    kept = tries.record(task)
    assert kept is not None and kept.status is TaskStatus.FAILED
    for text in (kept.error_msg or "", json.dumps(event.payload)):
        assert SECRET not in text and "A/1 2" not in text and "A%2F1" not in text
    return kept.stats["error_kind"], isinstance(event, TaskFailedEvent)


def test_the_request_carries_values_where_its_templates_are(tries: Tries, service: HttpService) -> None:
    task = http(
        service,
        f"/echo/{PATIENT}?fixed=1",
        method="POST",
        params={"name": NAME, "page": [1, 2], "deep": True},
        headers={"X-Study": NAME},
        json={
            "id": PATIENT,
            "n": 5,
            "list": [True, None, f"of {NAME}"],
            "none": "{{ context.input.patient_details.age }}",
        },
    )
    echo = succeeded(tries, task).result
    assert echo["path"] == "/echo/A%2F1%202"
    assert echo["query"] == [["fixed", "1"], ["name", SECRET], ["page", "1"], ["page", "2"], ["deep", "true"]]
    assert echo["headers"]["x-study"] == SECRET and echo["headers"]["content-type"] == "application/json"
    assert json.loads(echo["body"]) == {"id": "A/1 2", "n": 5, "list": [True, None, f"of {SECRET}"], "none": None}


@pytest.mark.parametrize(
    ("request_", "body", "kind"),
    [
        ({"body": f"hello {NAME}"}, f"hello {SECRET}", "text/plain; charset=utf-8"),
        ({"form": {"a": NAME, "b": [1, 2]}}, "a=Doe%5EJane&b=1&b=2", "application/x-www-form-urlencoded"),
        ({"body": "<x/>", "headers": {"content-type": "application/xml"}}, "<x/>", "application/xml"),
    ],
)  # fmt: skip
def test_other_bodies(tries: Tries, service: HttpService, request_: dict[str, Any], body: str, kind: str) -> None:
    echo = succeeded(tries, http(service, "/echo", **request_)).result
    assert (echo["method"], echo["body"], echo["headers"]["content-type"]) == ("POST", body, kind)


def test_a_json_value_that_is_one_template_keeps_its_type(tries: Tries, service: HttpService) -> None:
    record = TaskRecord("seg", "map", TaskStatus.SUCCEEDED, "id", result={"volume": 7.5, "is_ok": True, "ids": [1, 2]})
    RunFolder(tries.store, PAYLOAD_ID, "ct", tries.run_id).write_record(record)
    result = "{{ context.executions.seg.result.%s }}"
    body = {name: result % name for name in ("volume", "is_ok", "ids")} | {"text": f"v={result % 'volume'}"}
    echo = succeeded(tries, http(service, "/echo", json=body)).result
    assert json.loads(echo["body"]) == {"volume": 7.5, "is_ok": True, "ids": [1, 2], "text": "v=7.5"}


def test_the_answer_is_the_result(tries: Tries, service: HttpService) -> None:
    event = tries.event(http(service, "/result"))
    kept = tries.record(http(service, "/result"))
    assert kept is not None
    assert kept.result == {"volume": 712.5, "label": "ok", "data": {"parts": [{"id": 7}]}, "http_status": 200}
    assert kept.stats["http_status"] == 200 and kept.stats["response_bytes"] > 20
    assert event.xcoms["return_value"]["result"] == {"volume": 712.5, "http_status": 200}


@pytest.mark.parametrize(
    ("path", "request_", "result"),
    [
        ("/result", {"results": {"part": "data.parts.0.id", "no": "data.none", "pointer": "/data/parts/0"}},
         {"part": 7, "no": None, "pointer": {"id": 7}}),
        ("/raw?body=[1,2]", {}, {"value": [1, 2]}),
        ("/raw?body=", {}, {}),
        ("/raw?body=hello", {"response": "text"}, {"text": "hello"}),
        ("/raw?body=hello", {"response": "none"}, {}),
    ],
)  # fmt: skip
def test_what_of_it(
    tries: Tries, service: HttpService, path: str, request_: dict[str, Any], result: dict[str, Any]
) -> None:
    assert succeeded(tries, http(service, path, **request_)).result == {**result, "http_status": 200}


def test_an_answer_may_be_kept_as_an_artifact(tries: Tries, service: HttpService) -> None:
    path = "/raw?type=application/pdf&body=%25PDF"
    kept = succeeded(tries, http(service, path, response="none", outputs=[{"name": "report"}]))
    (key,) = kept.artifacts["report"]
    assert key.endswith("/g1/report/answer.pdf") and tries.store.read(key) == b"%PDF"
    assert kept.output_dir is not None and key.startswith(f"{kept.output_dir}/report/")


def test_an_artifact_that_is_not_there(tries: Tries, service: HttpService) -> None:
    assert failed(tries, http(service, "/raw?body=", outputs=[{"name": "report"}])) == ("missing_output", False)
    optional = [{"name": "report", "mandatory": False}]
    assert succeeded(tries.next(), http(service, "/raw?body=", outputs=optional)).artifacts == {}


@pytest.mark.parametrize(
    ("path", "request_", "kind", "again"),
    [
        ("/status/404", {}, "refused", False),
        ("/status/401", {"method": "POST"}, "refused", False),
        ("/status/204", {"expected_status": "200"}, "refused", False),
        ("/status/500", {}, "connection", True),
        ("/status/502", {"method": "PUT"}, "connection", True),
        ("/status/500", {"method": "POST"}, "refused", False),
        ("/status/500", {"method": "POST", "idempotency_key": "true"}, "connection", True),
        ("/status/503", {"method": "POST"}, "connection", True),
        ("/drop", {}, "connection", True),
        ("/drop", {"method": "PATCH", "body": "x"}, "refused", False),
        ("/half", {}, "connection", True),
        ("/half", {"body": "x"}, "refused", False),
        ("/slow/5", {"timeout_seconds": 0.5}, "connection", True),
        ("/slow/5", {"timeout_seconds": 0.5, "body": "x"}, "refused", False),
        ("/raw?body=nojson", {}, "refused", False),
        ("/raw?body=NaN", {}, "refused", False),
        ("/raw?body=1e999", {}, "refused", False),
        ("/raw?body=" + "[" * 5000, {}, "refused", False),
        ("/big/10000000", {"response": "text"}, "refused", False),
        ("/echo/{{ context.executions.none.result.x }}", {}, "invalid", False),
        ("/redirect/302?to=http://localhost:1/", {}, "refused", False),
        ("/redirect/302?to=/result", {"redirects": "none"}, "refused", False),
        ("/loop", {}, "refused", False),
    ],
)  # fmt: skip
def test_failures_by_kind(
    tries: Tries, service: HttpService, path: str, request_: dict[str, Any], kind: str, again: bool
) -> None:
    assert failed(tries, http(service, path, params={"name": NAME, **request_.pop("params", {})}, **request_)) == (
        kind,
        again,
    )


def test_a_service_that_is_not_there_is_tried_again_also_with_a_post(tries: Tries) -> None:
    nowhere = HttpService(choose(0), tries.store.spool())
    assert failed(tries, http(nowhere, "/x", body="x")) == ("connection", True)
    assert failed(tries.next(), http(nowhere, "/x", body="x")) == ("connection", True)
    assert failed(tries.next().next(), http(nowhere, "/x", url="http://no-such-host.invalid/")) == ("connection", True)


@pytest.mark.parametrize(("status", "method"), [("301", "GET"), ("302", "GET"), ("303", "GET"), ("307", "POST")])
def test_redirects_on_the_same_host_are_followed(tries: Tries, service: HttpService, status: str, method: str) -> None:
    echo = succeeded(tries, http(service, f"/redirect/{status}?to=/echo", body="x")).result
    assert (echo["method"], echo["body"]) == (method, "x" if method == "POST" else "")


@pytest.mark.parametrize("status", ["301", "302", "303"])
@pytest.mark.parametrize("place", ["/status/503", "/status/404", "/status/500", "/drop"])
def test_a_post_that_was_answered_with_another_page_is_not_sent_again(
    tries: Tries, service: HttpService, status: str, place: str
) -> None:
    """Whatever becomes of the page, the service has had the request (RFC 9110 section 15.4.4)."""
    task = http(service, f"/redirect/{status}?to={place}", body="x", timeout_seconds=1)
    task.light_task["failure_policy"] = {"refused": "retry"}
    before = len(service.asked(f"/redirect/{status}", "POST"))
    for one in (tries, tries.next()):
        assert failed(one, task) == ("refused", True)
    assert len(service.asked(f"/redirect/{status}", "POST")) == before + 1


def test_a_page_that_cannot_be_reached_after_a_post_is_an_answer_that_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def exchange(client: HttpClient, request: HttpRequest) -> HttpAnswer:
        if request.method == "POST":
            return HttpAnswer(303, {"location": "/done"}, b"", request.url)
        raise NotSent("not there")

    monkeypatch.setattr(HttpClient, "_exchange", exchange)
    with pytest.raises(AnswerLost):
        asyncio.run(HttpClient(Endpoint(), HostRules()).send(HttpRequest("POST", "http://localhost/start")))


def test_a_service_that_failed_is_asked_again_by_the_retry(tries: Tries, service: HttpService) -> None:
    task = http(service, f"/flaky/{time.time()}")
    assert failed(tries, task) == ("connection", True)
    kept = succeeded(tries.next(), task)
    assert (kept.result["volume"], kept.try_number, kept.generation) == (3, 2, 1)


@pytest.mark.parametrize("status", ["429", "503", "400"])
def test_a_post_that_was_not_handled_may_be_sent_again(tries: Tries, service: HttpService, status: str) -> None:
    """The author has to want it for 400; and Retry-After is heeded."""
    path = f"/flaky/post-{time.time()}/{status}"
    task = http(service, path, body="x")
    task.light_task["failure_policy"] = {"refused": "retry"}
    started = time.monotonic()
    tries.event(task)
    assert status == "400" or time.monotonic() - started > 1
    assert succeeded(tries.next(), task).result["volume"] == 3
    assert len(service.asked(path)) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("100000", MAX_RETRY_AFTER), ("-5", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("", 0)],
)
def test_retry_after_is_bounded(text: str, seconds: float) -> None:
    from airflow_monai.hooks.http_client import HttpAnswer
    from airflow_monai.triggers.http_exchange import _retry_after

    assert _retry_after(HttpAnswer(503, {"retry-after": text}, b"", "")) == seconds


def test_an_idempotency_key_is_the_same_for_all_tries_of_a_generation(tries: Tries, service: HttpService) -> None:
    path = f"/flaky/key-{time.time()}"
    task = http(service, path, body="x", idempotency_key="true")
    failed(tries, task)
    tries.event(task)  # its triggerer is said to have died: told again, not sent again
    succeeded(tries.next(), task)
    task.light_task["retries"] = 0
    succeeded(tries.next().next(), task)  # cleared by a person
    first, second, third = (one["headers"]["idempotency-key"] for one in service.asked(path))
    assert first == second != third and len(first) == 36


def test_an_own_key_is_sent_as_it_is(tries: Tries, service: HttpService) -> None:
    echo = succeeded(tries, http(service, "/echo", body="x", idempotency_key=f"k-{PATIENT}")).result
    assert echo["headers"]["idempotency-key"] == "k-A/1 2"


def killed_in_mid_request(tries: Tries, service: HttpService, path: str, task: HttpRequestOperator) -> None:
    life = tries.living(task)
    assert wait_until(lambda: len(service.asked(path)) == 1, 60)
    life.kill()
    life.join()


def test_a_triggerer_killed_in_mid_request(tries: Tries, service: HttpService) -> None:
    """A POST is not sent again, not even when the author wants retries; only when a person clears the task."""
    path = f"/slowfirst/{time.time()}/30"
    task = http(service, path, body="x", timeout_seconds=3, retries=1)
    task.light_task["failure_policy"] = {"refused": "retry"}
    started = time.monotonic()
    killed_in_mid_request(tries, service, path, task)
    assert failed(tries, task) == ("refused", True)
    assert time.monotonic() - started > 2.5, "the answer may have come to another triggerer until then"
    assert failed(tries.next(), task) == ("refused", True)
    assert len(service.asked(path)) == 1
    succeeded(tries.next().next(), task)
    assert len(service.asked(path)) == 2


@pytest.mark.parametrize("request_", [{"method": "PUT"}, {"method": "POST", "idempotency_key": "true"}])
def test_one_that_may_be_sent_twice_is(tries: Tries, service: HttpService, request_: dict[str, Any]) -> None:
    path = f"/slowfirst/{time.time()}/30"
    task = http(service, path, body="x", **request_)
    killed_in_mid_request(tries, service, path, task)
    succeeded(tries, task)
    assert len(service.asked(path)) == 2


def test_two_triggerers_at_once_send_it_once_and_agree(tries: Tries, service: HttpService) -> None:
    """One that lost its heartbeat and is still at it, and the one that took the task over."""
    task = http(service, "/slow/1.5", body="x", timeout_seconds=60)
    before = len(service.asked("/slow/1.5"))

    async def both() -> list[Any]:
        from tests.triggers.conftest import first_event

        first = asyncio.ensure_future(first_event(tries.trigger(task)))
        await asyncio.sleep(0.7)
        return await asyncio.gather(first, first_event(tries.trigger(task)))

    assert all(isinstance(event, TaskSuccessEvent) for event in asyncio.run(both()))
    assert len(service.asked("/slow/1.5")) == before + 1


def test_nothing_of_a_patient_is_logged_or_kept_by_airflow(
    tries: Tries, service: HttpService, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    task = http(service, f"/echo/{PATIENT}", params={"name": NAME}, json={"name": NAME}, headers={"X-Name": NAME})
    with caplog.at_level(logging.DEBUG):
        event = tries.event(task)
    trigger = tries.trigger(task)
    everything = caplog.text + "".join(capfd.readouterr()) + repr(event) + json.dumps(trigger.serialize()[1])
    assert f"POST {service.url}/echo" in everything, "the log has to say something"
    for secret in (SECRET, "Doe%5EJane", "A/1 2", "A%2F1"):
        assert secret not in everything


def test_a_host_that_the_site_does_not_allow(
    tries: Tries, service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__HTTP_ALLOWED_HOSTS", "*.hospital.example")
    before = len(service.asked())
    assert failed(tries, http(service, "/result")) == ("invalid", False)
    assert len(service.asked()) == before
    monkeypatch.setenv("AIRFLOW__MONAI__HTTP_ALLOWED_HOSTS", "*.hospital.example, 127.0.0.0/8")
    succeeded(tries.next(), http(service, "/result"))


def test_the_rights_of_a_connection_and_only_on_its_host(
    tries: Tries, service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {
        "conn_type": "http", "host": service.url, "login": "ann", "password": "s3cret", "extra": {"X-Api-Key": "k3y"}
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_AI", json.dumps(connection))
    with DAG("ct", schedule=None):
        task = HttpRequestOperator(task_id="call", request={"connection": "ai", "path": f"/echo/{PATIENT}"})
    echo = succeeded(tries, task).result
    assert echo["headers"]["authorization"] == "Basic YW5uOnMzY3JldA==" and echo["headers"]["x-api-key"] == "k3y"
    assert echo["path"] == "/echo/A%2F1%202"


def test_a_connection_that_is_not_there(tries: Tries) -> None:
    with DAG("ct", schedule=None):
        task = HttpRequestOperator(task_id="call", request={"connection": "no_such", "path": "/"}, retries=1)
    event = tries.event(task)
    assert "no Airflow connection 'no_such'" in event.payload["failed"]


def test_a_wrong_clock_makes_nobody_wait_longer_than_a_request_may_take(tries: Tries, service: HttpService) -> None:
    task = http(service, "/echo", timeout_seconds=1, json={"a": 1})
    tries.store.write_json(tries.note(task, "state"), {"try_id": tries.try_id, "began": "2026-01-02T00:00:00+00:00"})
    Fence(
        RunFolder(tries.store, PAYLOAD_ID, "ct", tries.run_id), "call", -1, 1, sortable_time(tries.run_started)
    ).claim()
    tries.store.create_json(tries.note(task, "request-sent-1"), {"at": time.time() + 3600})
    began = time.monotonic()
    assert not failed(tries, task)[1], "nobody knows whether it had its effect"
    assert time.monotonic() - began < 60
