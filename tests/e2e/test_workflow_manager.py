"""Instances, tasks and payloads over HTTP on a real Airflow: ended by hand, acknowledged, deleted, sent again."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import payload_key, run_id_of
from tests.e2e.helpers import (
    Maps,
    add_workflows,
    containers,
    export,
    make_study,
    send,
    store_of,
    wait_for_runs,
    wait_for_state,
    work,
    workflow,
)


class Client:
    """Somebody who knows the Workflow Manager's API only."""

    def __init__(self, stack: LocalStack):
        self._base = f"{stack.ui}/monai/workflow-manager"
        self._headers = {"Authorization": f"Bearer {stack.api._bearer()}"}

    def call(self, method: str, path: str, json: Any = None) -> requests.Response:
        return requests.request(method, f"{self._base}{path}", json=json, headers=self._headers, timeout=60)

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def tasks(self, payload_id: str) -> dict[str, dict[str, Any]]:
        (instance,) = self.get(f"/workflowinstances?payloadId={payload_id}")["Data"]
        return {task["task_id"]: task for task in instance["tasks"]}


def test_a_task_is_ended_by_hand_and_its_payload_deleted_and_sent_again(
    stack: LocalStack, maps: Maps, tmp_path: Path
) -> None:
    client, study = Client(stack), make_study(tmp_path, "E2EWMEND")
    spec = workflow("e2e-wm-end", "E2EWMEND", work(maps.reference("ok", "300")), export(destinations=("AUDIT",)))
    add_workflows(stack, spec)
    send(stack, study)
    wait_for_state(stack, "e2e-wm-end", study.run_id, "work", "running")
    labels = {"dag": "e2e-wm-end"}
    if maps.runner == "docker":
        stack.wait_for(lambda: containers(stack, **labels), seconds=180, what="the container")
    task = client.tasks(study.payload_id)["work"]
    assert task["status"] == "Accepted"
    running = [one["execution_id"] for one in client.get("/tasks/running?pageSize=100")["Data"]]
    assert task["execution_id"] in running
    assert client.call("DELETE", f"/payload/{study.payload_id}").status_code == 400
    path = f"/tasks/{task['execution_id']}"
    assert client.call("PUT", path, {"status": "Canceled"}).json()["status"] == "Canceled"
    assert client.call("PUT", path, {"status": "Failed"}).status_code == 409
    assert wait_for_runs(stack, "e2e-wm-end", 1)[study.run_id]["state"] == "failed"
    if maps.runner == "docker":
        stack.wait_for(lambda: not containers(stack, **labels), seconds=180, what="the container's end")
    assert client.tasks(study.payload_id)["work"]["status"] == "Canceled"
    (instance,) = client.get(f"/workflowinstances?payloadId={study.payload_id}")["Data"]
    assert instance["id"] in [one["id"] for one in client.get("/workflowinstances/failed")]
    note = f"/workflowinstances/{instance['id']}/executions/{task['execution_id']}/acknowledge"
    assert client.call("PUT", note).status_code == 200
    assert instance["id"] not in [one["id"] for one in client.get("/workflowinstances/failed")]

    assert client.call("DELETE", f"/payload/{study.payload_id}?reason=test").status_code == 202
    stack.wait_for(
        lambda: client.get(f"/payload/{study.payload_id}")["payload_deleted"] == "Yes", seconds=180, what="the deletion"
    )
    store = store_of(stack)
    assert not list(store.children(payload_key(study.payload_id, "dcm")))
    assert not store.exists(payload_key(study.payload_id, "payload.json"))
    left = client.get(f"/payload/{study.payload_id}")
    assert left["deletion"]["reason"] == "test" and left["patient_details"] is None
    assert client.tasks(study.payload_id)["work"]["status"] == "Canceled"
    send(stack, study)  # whoever sends it wants it
    again = run_id_of(study.payload(1))
    wait_for_state(stack, "e2e-wm-end", again, "work", "running")
    assert not list(store.children(payload_key(study.payload_id, "dcm")))
    again_task = client.tasks(study.payload(1))["work"]["execution_id"]
    assert client.call("PUT", f"/tasks/{again_task}", {"status": "Canceled"}).status_code == 200
    assert wait_for_runs(stack, "e2e-wm-end", 2)[again]["state"] == "failed"


def test_a_gateway_sees_runs_that_name_a_payload_in_their_conf(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it deletes what they work on. Airflow says so of any payload; this one is nobody's."""
    connection = {
        "conn_type": "http", "host": "127.0.0.1", "port": stack.ports.ui, "login": USER,
        "password": stack.secrets.password,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", json.dumps(connection))
    asked, payload_id = AirflowApi("monai_airflow"), str(uuid.uuid4())
    add_workflows(stack, workflow("e2e-wm-conf", "E2EWMCONF", {"id": "route", "type": "router"}))
    dag = "/dags/e2e-wm-conf"
    stack.api.call("PATCH", dag, {"is_paused": True})  # its runs wait
    wanted = {"dag_run_id": "by-conf", "logical_date": None, "conf": {"payload_id": payload_id}}
    assert not asked.is_worked_on(payload_id)
    assert stack.api.call("POST", f"{dag}/dagRuns", wanted)["state"] == "queued"
    assert asked.is_worked_on(payload_id) and not asked.is_worked_on(str(uuid.uuid4()))
    stack.api.call("PATCH", f"{dag}/dagRuns/by-conf", {"state": "failed"})
    assert not asked.is_worked_on(payload_id)
