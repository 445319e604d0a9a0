"""A workflow from its registration over HTTP to its end, on a real Airflow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import requests

from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import instance_id_of
from tests.e2e.helpers import Maps, export, make_study, send, storescu, wait_for_runs, wait_for_state, work, workflow

SECONDS = 90
"""Within so many seconds a change shows in Airflow, on a machine that hardly gets on; how many it took is told."""
NAME, AET = "e2e-by-http", "BYHTTP"


class Client:
    """Somebody who knows the Workflow Manager's API only."""

    def __init__(self, stack: LocalStack):
        self._base = f"{stack.ui}/monai/workflow-manager"
        self._token = stack.api._bearer()

    def __call__(self, method: str, path: str, json: Any = None, status: int = 200) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = requests.request(method, f"{self._base}{path}", json=json, headers=headers, timeout=60)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None


def definition(maps: Maps, last: str) -> dict[str, Any]:
    tasks = work(maps.reference("ok", "6"), {"name": last}), export(last, ["ARCHIVE"])
    return {**workflow(NAME, AET, *tasks), "version": last}


def is_there(stack: LocalStack) -> bool:
    dag = stack.api.dag(NAME)
    return dag is not None and not dag["is_stale"]


def test_from_registration_to_its_end(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    call = Client(stack)
    known = call("POST", "/workflows", definition(maps, "send"))["id"]
    began = time.monotonic()
    stack.wait_for(lambda: is_there(stack), seconds=SECONDS, what="the DAG")
    print(f"the DAG was there after {time.monotonic() - began:.1f} s")
    assert known in [one["workflow_id"] for one in call("GET", "/workflows")]
    page = call("GET", f"/workflows/aetitle/{AET}?pageSize=1")
    assert page["FirstPage"] == f"/monai/workflow-manager/workflows/aetitle/{AET}?pageNumber=1&pageSize=1"

    first, second = make_study(tmp_path, AET), make_study(tmp_path, AET)
    send(stack, first)
    wait_for_state(stack, NAME, first.run_id, "work", "running")
    before = versions(stack)
    assert call("PUT", f"/workflows/{known}", definition(maps, "deliver"))["version_id"] == "2"
    stack.wait_for(lambda: versions(stack) > before, seconds=SECONDS, what="the DAG's new version")
    assert wait_for_runs(stack, NAME, 1)[first.run_id]["state"] == "success"
    assert set(stack.states(NAME, first.run_id)) == {"work", "send"}  # it stayed as it began
    instance = call("GET", f"/workflowinstances/{instance_id_of(NAME, first.run_id)}")
    assert (instance["workflow_name"], instance["payload_id"]) == (NAME, first.payload_id)

    send(stack, second)
    wait_for_state(stack, NAME, second.run_id, "work", "running")
    assert call("DELETE", f"/workflows/{known}") is None
    late = make_study(tmp_path, AET)  # a gateway may listen for two seconds more, and starts nothing for what it takes
    stack.wait_for(lambda: storescu(stack, AET, late.files).returncode != 0, seconds=SECONDS, what="a refusal")
    assert wait_for_runs(stack, NAME, 2)[second.run_id]["state"] == "success"  # what had begun ends normally
    assert set(stack.states(NAME, second.run_id)) == {"work", "deliver"}
    stack.wait_for(lambda: not is_there(stack), seconds=15 + SECONDS, what="the end of the DAG")
    call("GET", f"/workflows/{known}", status=404)
    assert [one["workflow"]["version"] for one in call("GET", f"/workflows/{known}/revisions")] == ["send", "deliver"]
    assert {run["dag_run_id"] for run in stack.api.runs(NAME)} == {first.run_id, second.run_id}


def versions(stack: LocalStack) -> int:
    return int(stack.api.call("GET", f"/dags/{NAME}/dagVersions")["total_entries"])
