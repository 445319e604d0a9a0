"""What a destination has lost is sent to it again, by those who may, once for each time that it is wanted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_monai.api.instances.clearing import clear_task
from airflow_monai.api.workload_manager import resending
from airflow_monai.cli.standalone import parser
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.store.deletion import request_deletion
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import instance_id_of, payload_key, run_id_of
from tests.api.airflow_rows import set_task, state_of
from tests.api.workflow_manager.scene import events, only, receive, work_on, write_workflow

Api = Callable[..., TestClient]
WANTED = {"sink": "PACS", "reason": "the disk has burnt"}
NOTHING = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def dag_id(api: Api, site_store: LocalStore, tmp_path: Path) -> str:
    return write_workflow(tmp_path / "workflows", "look")


@pytest.fixture
def payload(dag_id: str, site_store: LocalStore) -> str:
    """With a run that has delivered three objects, and a fourth that was refused."""
    payload_id = receive(site_store)
    task = f"{dag_id}/{work_on(site_store, dag_id, payload_id)}/send"
    accepted = Entry(DeliveryState.ACCEPTED, "0000", time="2026-01-02T03:04:05+00:00", task=task, attempts=1)
    page = {f"1.{number}": accepted for number in range(3)}
    ledger(site_store, payload_id).write_page(
        "a", page | {"1.9": replace(accepted, state=DeliveryState.REFUSED, status="0122")}
    )
    return payload_id


def ledger(store: LocalStore, payload_id: str) -> Ledger:
    return Ledger(store, payload_id, "PACS")


def states(store: LocalStore, payload_id: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, entry in ledger(store, payload_id).entries():
        found[entry.state.value] = found.get(entry.state.value, 0) + 1
    return found


def path(payload_id: str) -> str:
    return f"/workload-manager/payloads/{payload_id}/resend"


def sending(dag_id: str, payload_id: str) -> TaskInstance:
    with create_session() as session:
        wanted = select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.task_id == "send")
        found = session.scalars(wanted).one()
        found.note  # noqa: B018 - reads it
        return found


def deliver(store: LocalStore, dag_id: str, payload_id: str) -> None:
    """As the task that runs again does."""
    page = {
        name: replace(entry, state=DeliveryState.ACCEPTED, attempts=entry.attempts + 1, again=False)
        for name, entry in ledger(store, payload_id).entries()
        if entry.again
    }
    ledger(store, payload_id).write_page(uuid.uuid4().hex, page)
    set_task(dag_id, run_id_of(payload_id), "send", {"state": "success"})


def test_what_was_accepted_is_sent_again_by_the_task_that_delivered_it(
    api: Api, dag_id: str, payload: str, site_store: LocalStore
) -> None:
    run_id = run_id_of(payload)
    answer = api("op").post(path(payload), json=WANTED)
    assert answer.status_code == 202, answer.text
    told = {
        "workflow_instance_id": instance_id_of(dag_id, run_id),
        "dag_id": dag_id,
        "run_id": run_id,
        "task_id": "send",
        "state": "RunsAgain",
    }
    assert answer.json() == {"payload_id": payload, "sink": "PACS", "objects": 3, "tasks": [told]}
    assert states(site_store, payload) == {"pending": 3, "refused": 1}
    task = sending(dag_id, payload)
    assert task.state is None and "wanted again by op: the disk has burnt" in str(task.note)
    assert state_of(dag_id, run_id) == "queued"
    facts = {"payload": payload, "sink": "PACS"}
    assert [(event, dag, json.loads(str(extra))) for event, dag, extra in events()] == [
        ("monai.payload.resend", dag_id, {**facts, "objects": 3}),
        ("monai.task.clear", dag_id, facts),
    ]
    before = set(site_store.list(payload_key(payload, "exports")))
    again = api("op").post(path(payload), json=WANTED).json()
    assert (again["objects"], again["tasks"][0]["state"]) == (3, "Waits")
    assert set(site_store.list(payload_key(payload, "exports"))) == before


def test_who_may_not_changes_nothing(
    api: Api, dag_id: str, payload: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api(None).post(path(payload), json=WANTED).status_code == 401
    assert api("viewer").post(path(payload), json=WANTED).status_code == 403
    assert api("viewer").post(path(payload), json={**WANTED, "dry_run": True}).status_code == 403
    with only(monkeypatch, "another"):
        assert api("op").post(path(payload), json=WANTED).status_code == 404
    assert api("op").post(path(NOTHING), json=WANTED).status_code == 404
    for bad in ({}, {"sink": ""}, {**WANTED, "more": 1}, {**WANTED, "reason": "x" * 201}):
        assert api("op").post(path(payload), json=bad).status_code == 400
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}
    assert sending(dag_id, payload).state == "success" and events() == []


def test_a_look_at_what_it_would_be_changes_nothing(
    api: Api, dag_id: str, payload: str, site_store: LocalStore
) -> None:
    answer = api("op").post(path(payload), json={**WANTED, "dry_run": True}, headers={"Idempotency-Key": "k"})
    assert (answer.json()["objects"], answer.json()["tasks"][0]["state"]) == (3, None)
    assert states(site_store, payload) == {"accepted": 3, "refused": 1} and events() == []
    assert sending(dag_id, payload).state == "success"
    assert not list(site_store.children(payload_key(payload, "resends")))


def test_a_call_with_the_same_key_is_carried_out_once(
    api: Api, dag_id: str, payload: str, site_store: LocalStore
) -> None:
    """Also when its answer got lost, and all was delivered since."""
    key = {"Idempotency-Key": "k"}
    first = api("op").post(path(payload), json=WANTED, headers=key)
    deliver(site_store, dag_id, payload)
    second = api("op").post(path(payload), json=WANTED, headers=key)
    assert (first.status_code, second.status_code) == (202, 202) and second.json() == first.json()
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}
    assert sending(dag_id, payload).state == "success" and len(events()) == 2
    other = api("op").post(path(payload), json={"sink": "PACS"}, headers=key)
    assert other.status_code == 409 and "use a new one" in other.json()["detail"]
    # another person's key is another key, and a new wish is a new wish
    assert api("admin").post(path(payload), json=WANTED, headers=key).json()["tasks"][0]["state"] == "RunsAgain"
    assert states(site_store, payload) == {"pending": 3, "refused": 1}


def test_a_server_that_dies_over_it_is_asked_again(
    api: Api, dag_id: str, payload: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Idempotency-Key": "k"}

    with monkeypatch.context() as patch:
        patch.setattr(resending, "clear_task", _die)
        assert api("op").post(path(payload), json=WANTED, headers=key).status_code == 500
    assert states(site_store, payload) == {"pending": 3, "refused": 1} and sending(dag_id, payload).state == "success"
    assert [event for event, _, _ in events()] == ["monai.payload.resend"], "what is marked is in the audit log"
    answer = api("op").post(path(payload), json=WANTED, headers=key)
    assert (answer.json()["objects"], answer.json()["tasks"][0]["state"]) == (3, "RunsAgain")
    assert sending(dag_id, payload).state is None
    assert [event for event, _, _ in events()] == ["monai.payload.resend", "monai.task.clear"]


def test_a_server_that_dies_after_it_has_cleared_the_task_sends_nothing_twice(
    api: Api, dag_id: str, payload: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Idempotency-Key": "k"}

    def dies_then(*words: Any) -> None:
        clear_task(*words)
        raise RuntimeError("it died")

    with monkeypatch.context() as patch:
        patch.setattr(resending, "clear_task", dies_then)
        assert api("op").post(path(payload), json=WANTED, headers=key).status_code == 500
    assert sending(dag_id, payload).state is None
    deliver(site_store, dag_id, payload)
    answer = api("op").post(path(payload), json=WANTED, headers=key)
    assert (answer.json()["objects"], answer.json()["tasks"][0]["state"]) == (3, "Sent")
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}
    assert sending(dag_id, payload).state == "success"
    assert api("op").post(path(payload), json=WANTED, headers=key).json() == answer.json()


@pytest.mark.parametrize("until", ["note", "clear_task"])
def test_a_call_that_its_repeat_has_overtaken_sends_nothing_twice(
    api: Api, dag_id: str, payload: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch, until: str
) -> None:
    """The first is slow before it marks anything, or before it clears the task."""
    key, told = {"Idempotency-Key": "k"}, []
    goes_on = getattr(resending, until)

    def overtaken(*words: Any, **more: Any) -> Any:
        monkeypatch.setattr(resending, until, goes_on)
        told.append(api("op").post(path(payload), json=WANTED, headers=key).json())
        deliver(site_store, dag_id, payload)
        return goes_on(*words, **more)

    monkeypatch.setattr(resending, until, overtaken)
    first = api("op").post(path(payload), json=WANTED, headers=key).json()
    assert told == [first] and first["tasks"][0]["state"] == "RunsAgain"
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}
    if until == "note":
        assert sending(dag_id, payload).state == "success"


def test_the_same_key_goes_on_when_the_task_that_was_running_has_ended(
    api: Api, dag_id: str, payload: str, site_store: LocalStore
) -> None:
    def told() -> str:
        answer = api("op").post(path(payload), json=WANTED, headers={"Idempotency-Key": "k"})
        return str(answer.json()["tasks"][0]["state"])

    set_task(dag_id, run_id_of(payload), "send", {"state": "running"})
    assert told() == told() == "Running"
    set_task(dag_id, run_id_of(payload), "send", {"state": "success"})
    assert states(site_store, payload) == {"pending": 3, "refused": 1}
    assert told() == "RunsAgain"
    assert sending(dag_id, payload).state is None
    deliver(site_store, dag_id, payload)
    assert told() == "RunsAgain"
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}


def test_only_who_may_send_it_again_learns_where_it_went(
    api: Api, dag_id: str, payload: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees the payload by one workflow may not know of the other."""
    other = Entry(DeliveryState.ACCEPTED, "0000", time="2026-01-02T03:04:05+00:00", task="other/run/send", attempts=1)
    Ledger(site_store, payload, "SECRET").write_page("a", {"1.1": other})

    def refused(sink: str, who: str = "op") -> tuple[int, str]:
        answer = api(who).post(path(payload), json={"sink": sink})
        return answer.status_code, str(answer.json()["detail"]).replace(sink, "X")

    assert "There are: PACS, SECRET." in refused("NONE", "admin")[1]
    with only(monkeypatch, dag_id):
        assert refused("SECRET") == refused("NONE")
        code, told = refused("NONE")
        assert code == 409 and "There are: PACS." in told and "SECRET" not in told
        assert api("op").post(path(payload), json={"sink": "PACS", "dry_run": True}).status_code == 202
    assert refused("NONE", "viewer") == refused("SECRET", "viewer") == refused("PACS", "viewer")
    assert refused("NONE", "viewer")[0] == 403
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}


def test_that_airflow_keeps_the_reason_is_said_where_it_is_typed(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    told = api("op").get("/openapi.json").json()["components"]["schemas"]["Resend"]["properties"]["reason"]
    with pytest.raises(SystemExit):
        parser().parse_args(["payloads", "resend", "--help"])
    page = (Path(__file__).parents[3] / "docs" / "workload-manager.md").read_text("utf-8")
    for text in (told["description"], capsys.readouterr().out, page):
        text = " ".join(text.split())
        assert "database" in text and "name no patient" in text.lower()


def _die(*_: Any) -> None:
    raise RuntimeError("it died")


@pytest.mark.parametrize(
    ("state", "told"),
    [("running", "Running"), ("deferred", "Running"), ("queued", "Waits"), ("failed", "RunsAgain"), ("", "Gone")],
)
def test_how_the_task_is_decides(api: Api, dag_id: str, payload: str, state: str, told: str) -> None:
    if state:
        set_task(dag_id, run_id_of(payload), "send", {"state": state})
    else:
        from airflow.models.dagrun import DagRun
        from sqlalchemy import delete

        with create_session() as session:
            session.execute(delete(DagRun))
    answer = api("admin").post(path(payload), json=WANTED)
    assert [task["state"] for task in answer.json()["tasks"]] == [told]
    if state in ("running", "deferred", "queued"):
        assert sending(dag_id, payload).state == state


def test_where_there_is_nothing_to_send_it_is_said_why(api: Api, payload: str, site_store: LocalStore) -> None:
    def refused(wanted: dict[str, str]) -> str:
        answer = api("op").post(path(payload), json=wanted)
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
        return str(answer.json()["detail"])

    assert "There are: PACS" in refused({"sink": "OTHER"})
    assert "has accepted nothing of this payload of what task 'other' delivered" in refused({**WANTED, "task": "other"})
    request_deletion(site_store, payload, "anna")
    assert "is being deleted" in refused(WANTED)


def test_it_is_a_command_too(
    command: Callable[..., str], dag_id: str, payload: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("payloads", "resend", payload, "--sink", "PACS")
    assert "Say --yes" in command(*words, code=2)  # nobody is there to answer
    assert "no right" in command(*words, "--yes", code=1, who="viewer")
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}
    with monkeypatch.context() as patch:
        patch.setattr(resending, "clear_task", _die)
        lost = command(*words, "--yes", code=2)
    assert "Try again with --key" in lost and states(site_store, payload) == {"pending": 3, "refused": 1}
    told = command(*words, "--yes", "--key", "k", "--reason", "restored")
    assert (
        "PACS: 3 objects are to be sent again" in told and f"send of {dag_id} {run_id_of(payload)}: runs again" in told
    )
    deliver(site_store, dag_id, payload)
    assert command(*words, "--yes", "--key", "k", "--reason", "restored") == told
    assert states(site_store, payload) == {"accepted": 3, "refused": 1}
    set_task(dag_id, run_id_of(payload), "send", {"state": "running"})
    waits = command(*words, "--yes", "--key", "k2", code=1)
    assert "do this again, with --key k2, when it has ended" in waits
    set_task(dag_id, run_id_of(payload), "send", {"state": "success"})
    assert "runs again" in command(*words, "--yes", "--key", "k2")
