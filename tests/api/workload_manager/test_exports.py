"""Sinks and export tasks as a client elsewhere uses them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.log import Log
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_monai.pulls.tasks import PullFile, PullTask, PullTasks
from airflow_monai.store.local import LocalStore

Api = Callable[..., TestClient]
SINKS = "/workload-manager/sinks"
TASKS = f"{SINKS}/OUTSIDE/tasks"
PAYLOAD = "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e01"
TASK_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


@pytest.fixture
def task(site_store: LocalStore) -> PullTask:
    keys = [f"payloads/{PAYLOAD}/workflows/ct-lung/run/segment/g1/seg/{name}.dcm" for name in ("a", "b")]
    for key in keys:
        site_store.write(key, key.encode())
    made = PullTask(
        task_id=TASK_ID,
        sink="OUTSIDE",
        workflow_instance_id="3f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21",
        payload_id=PAYLOAD,
        dag_id="ct-lung",
        run_id=f"monai__{PAYLOAD}",
        correlation_id="c",
        destinations=("PACS2",),
        files=tuple(PullFile(key, key[-5:], len(key), f"1.2.{number}") for number, key in enumerate(keys)),
        created="2026-01-01T00:00:00+00:00",
    )
    PullTasks(site_store, "OUTSIDE").ask(made)
    return made


def take(user: TestClient, **body: Any) -> list[dict[str, Any]]:
    answer = user.post(f"{TASKS}/take", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_sink_is_made_listed_and_deleted_and_its_secrets_are_never_told(api: Api) -> None:
    admin = api("admin")
    body = {
        "name": "WEB", "type": "monai_dicomweb", "host": "pacs.example.org", "login": "me", "password": "hush-hush",
        "extra": {"path": "dicom-web", "client_secret": "hush-hush"},
    }  # fmt: skip
    made = admin.post(SINKS, json=body)
    assert made.status_code == 200 and made.json()["extra"] == {"path": "dicom-web", "client_secret": "***"}
    assert admin.post(SINKS, json={"name": "OUTSIDE"}).json()["type"] == "monai_pull"
    assert admin.post(SINKS, json=body).status_code == 409
    listed = admin.get(SINKS)
    assert [sink["name"] for sink in listed.json()] == ["OUTSIDE", "WEB"]
    assert admin.get(f"{SINKS}/WEB").json()["host"] == "pacs.example.org"
    with create_session() as session:
        noted = json.dumps([[entry.event, entry.extra] for entry in session.scalars(select(Log))])
    assert "monai.sink.create" in noted
    assert "hush-hush" not in made.text + listed.text + noted
    assert admin.delete(f"{SINKS}/WEB").status_code == 204
    assert admin.get(f"{SINKS}/WEB").status_code == 404
    assert admin.delete(f"{SINKS}/WEB").status_code == 404


@pytest.mark.parametrize(
    "body, said",
    [
        ({"name": "a b"}, "letters"),
        ({"name": "X", "type": "fax"}, "no sink of type"),
        ({"name": "X", "type": "monai_folder", "extra": {"path": "here"}}, "no absolute folder"),
        ({"type": "dicom"}, "body.name"),
    ],
)
def test_a_sink_that_cannot_be_is_refused(api: Api, body: dict[str, Any], said: str) -> None:
    answer = api("admin").post(SINKS, json=body)
    assert answer.status_code == 400 and said in answer.json()["detail"]
    assert api("admin").get(SINKS).json() == []


def test_a_client_takes_downloads_and_reports(api: Api, task: PullTask, site_store: LocalStore) -> None:
    client = api("user")
    assert [(item["export_task_id"], item["state"]) for item in client.get(TASKS).json()] == [(TASK_ID, "open")]
    (taken,) = take(client, count=5, client="gateway-2")
    assert taken["taken_by"] == "gateway-2" and taken["destinations"] == ["PACS2"]
    assert take(client) == []
    assert client.get(f"{TASKS}/{TASK_ID}").json()["state"] == "taken"
    assert client.get(f"{TASKS}/{TASK_ID}/files/1").content == task.files[1].path.encode()
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{TASKS}/{TASK_ID}/files").content))
    assert sorted(archive.namelist()) == ["0-a.dcm", "1-b.dcm"]
    report = {
        "lease": taken["lease"],
        "status": "PartialFailure",
        "file_statuses": {task.files[0].path: "Success", task.files[1].path: "ServiceError"},
    }
    assert client.put(f"{TASKS}/{TASK_ID}", json={**report, "lease": "guessed"}).status_code == 409
    assert client.put(f"{TASKS}/{TASK_ID}", json=report).status_code == 204
    assert client.put(f"{TASKS}/{TASK_ID}", json=report).status_code == 204
    assert client.get(TASKS).json() == [] and client.get(f"{TASKS}/{TASK_ID}").json()["state"] == "done"


def test_a_lease_is_kept_and_given_back(api: Api, task: PullTask) -> None:
    client = api("user")
    (taken,) = take(client, lease_seconds=60)
    lease = {"lease": taken["lease"], "lease_seconds": 600}
    assert client.post(f"{TASKS}/{TASK_ID}/renew", json=lease).json()["taken_until"] > taken["taken_until"]
    assert client.post(f"{TASKS}/{TASK_ID}/renew", json={"lease": "guessed"}).status_code == 409
    assert client.post(f"{TASKS}/{TASK_ID}/return", json=lease).status_code == 204
    assert len(take(client)) == 1


def test_every_look_and_every_change_is_in_the_audit_log(api: Api, task: PullTask) -> None:
    client = api("user")
    client.get(f"{TASKS}/{TASK_ID}")
    (taken,) = take(client)
    lease = {"lease": taken["lease"]}
    client.post(f"{TASKS}/{TASK_ID}/renew", json=lease)
    client.post(f"{TASKS}/{TASK_ID}/renew", json={"lease": "guessed"})  # nothing was changed
    client.post(f"{TASKS}/{TASK_ID}/return", json=lease)
    with create_session() as session:
        entries = session.execute(
            select(Log.event, Log.dag_id, Log.extra).where(Log.event.like("monai.export.%")).order_by(Log.id)
        ).all()
    assert [event for event, _, _ in entries] == [
        f"monai.export.{what}" for what in ("read", "take", "renew", "return")
    ]
    assert {dag_id for _, dag_id, _ in entries} == {"ct-lung"}
    assert all(TASK_ID in extra and ".dcm" not in extra and "1.2." not in extra for _, _, extra in entries)


def test_who_may_not_is_refused(api: Api, task: PullTask) -> None:
    assert api(None).get(TASKS).status_code == 401
    assert api("viewer").post(f"{TASKS}/take", json={}).status_code == 403
    assert api("viewer").put(f"{TASKS}/{TASK_ID}", json={"lease": "x", "status": "Success"}).status_code == 403
    assert api("user").post(SINKS, json={"name": "X"}).status_code == 403
    assert api("user").get(SINKS).status_code == 403
    assert api("user").delete(f"{SINKS}/X").status_code == 403


def test_what_is_not_there_or_not_valid_is_told(api: Api, task: PullTask, site_store: LocalStore) -> None:
    client = api("user")
    nothing = f"{TASKS}/00000000-0000-0000-0000-000000000000"
    assert client.get(nothing).status_code == 404
    assert client.get(f"{nothing}/files/0").status_code == 404
    assert client.put(nothing, json={"lease": "x", "status": "Success"}).status_code == 404
    assert client.get(f"{TASKS}/{TASK_ID}/files/2").status_code == 404
    assert client.get(f"{TASKS}/{TASK_ID}/files/x").status_code == 400
    assert client.post(f"{TASKS}/take", json={"count": 0}).status_code == 400
    assert client.put(f"{TASKS}/{TASK_ID}", json={"lease": "x", "status": "Perhaps"}).status_code == 400
    (taken,) = take(client)
    wrong = {"lease": taken["lease"], "status": "Success", "file_statuses": {"x": "Success"}}
    assert client.put(f"{TASKS}/{TASK_ID}", json=wrong).status_code == 400
    site_store.delete(task.files[0].path)
    assert client.get(f"{TASKS}/{TASK_ID}/files/0").status_code == 410
