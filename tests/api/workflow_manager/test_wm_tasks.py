"""Tasks over HTTP: found, counted, and ended by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.store.runs import Fence, RunFolder
from tests.api.airflow_rows import set_task
from tests.api.workflow_manager.scene import (
    BASE,
    events,
    of_instance,
    only,
    receive,
    statements,
    work_on,
    write_workflow,
)

Api = Callable[[str | None], TestClient]
PATH = f"{BASE}/tasks"
NOTHING = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def dag_id(api: Api, site_store: LocalStore, tmp_path: Path) -> str:
    return write_workflow(tmp_path / "workflows", "look")


@pytest.fixture
def payload(site_store: LocalStore) -> str:
    return receive(site_store)


def state_of_task(dag_id: str, run_id: str, task_id: str) -> str:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = select(TaskInstance.state).where(
            TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id == task_id
        )
        return str(session.scalar(wanted))


def task_of(client: TestClient, payload: str, task_id: str = "work") -> dict[str, Any]:
    return next(task for task in of_instance(client, payload)["tasks"] if task["task_id"] == task_id)


def test_a_task_is_found_by_its_ids(api: Api, dag_id: str, site_store: LocalStore, payload: str) -> None:
    run_id = work_on(site_store, dag_id, payload)
    client = api("viewer")
    task = task_of(client, payload)
    assert client.get(f"{PATH}/{task['execution_id'].upper()}").json() == task
    ids = {
        "workflowInstanceId": instance_id_of(dag_id, run_id),
        "taskId": "work",
        "executionId": task["execution_id"],
    }
    assert client.get(PATH, params=ids).json() == task
    assert client.request("GET", PATH, json=ids).json() == task
    assert client.get(PATH, params={"workflowInstanceId": ids["workflowInstanceId"], "taskId": "work"}).json() == task
    for change, status in (
        ({"executionId": NOTHING}, 404),
        ({"taskId": "segment.to.send"}, 404),
        ({"workflowInstanceId": NOTHING}, 404),
        ({"workflowInstanceId": "x"}, 400),
        ({"taskId": ""}, 400),
    ):
        assert client.get(PATH, params={**ids, **change}).status_code == status, change
        assert client.request("GET", PATH, json={**ids, **change}).status_code == status, change
    for body in (b"[]", b"{", b"[" * 5000, b'"' + b"x" * 5000):
        assert client.request("GET", PATH, content=body).status_code == 400
    for path, status in ((f"{PATH}/{NOTHING}", 404), (f"{PATH}/x", 400)):
        assert client.get(path).status_code == status


def test_a_cleared_task_has_another_execution_id(api: Api, dag_id: str, site_store: LocalStore, payload: str) -> None:
    run_id = work_on(site_store, dag_id, payload)
    client = api("viewer")
    first = task_of(client, payload)["execution_id"]
    set_task(dag_id, run_id, "work", {"state": "running", "try_number": 3, "max_tries": 3})
    Fence(RunFolder(site_store, payload, dag_id, run_id), "work", -1, 3).claim(3)
    now = task_of(client, payload)
    assert now["execution_id"] != first and now["status"] == "Accepted" and now["result"] is None
    assert client.get(f"{PATH}/{first}").status_code == 404
    assert client.get(f"{PATH}/{now['execution_id']}").json() == now


def test_tasks_that_run_and_those_of_a_time(
    api: Api, dag_id: str, site_store: LocalStore, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = receive(site_store, "1.2.9")
    work_on(site_store, dag_id, payload)
    work_on(site_store, dag_id, other, "running")
    client = api("viewer")
    running = client.get(f"{PATH}/running").json()
    assert [(task["task_id"], task["status"]) for task in running["Data"]] == [("work", "Accepted")]
    began = datetime.fromisoformat(running["Data"][0]["task_start_time"])
    assert datetime.fromisoformat(running["Data"][0]["next_timeout"]) - began == timedelta(minutes=30)
    assert len(client.get(PATH).json()) == 5
    soon = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    still = client.get(PATH, params={"startTime": soon}).json()
    assert [task["task_id"] for task in still] == ["work"], "it has not ended"
    page = client.get(PATH, params={"pageNumber": 1, "pageSize": 2, "endTime": soon}).json()
    assert (page["TotalRecords"], len(page["Data"])) == (5, 2)
    with statements() as said:
        client.get(PATH, params={"pageSize": 100})
    assert len(said) <= 8, said
    for bad in ({"startTime": "yesterday"}, {"startTime": soon, "endTime": "2020-01-01T00:00:00Z"}):
        assert client.get(PATH, params=bad).status_code == 400
    with only(monkeypatch, "nothing"):
        assert client.get(f"{PATH}/running").json()["Data"] == [] == client.get(PATH).json()
        assert client.get(f"{PATH}/{running['Data'][0]['execution_id']}").status_code == 404


def test_counts_are_made_by_the_database(
    api: Api, dag_id: str, site_store: LocalStore, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, state in enumerate(("success", "failed", "running")):
        work_on(site_store, dag_id, payload, state, f"r{number}")
    client = api("viewer")
    with statements() as said:
        told = client.get(f"{PATH}/statsoverview").json()
    assert len(said) <= 4, said
    counts = ("TotalExecutions", "TotalSucceeded", "TotalFailures", "TotalInprogress")
    assert [told[name] for name in counts] == [7, 5, 1, 1]
    assert told["AverageTotalExecutionSeconds"] == 16.667 and told["AverageArgoExecutionSeconds"] == 0
    assert told["PeriodStart"].startswith("2023-01-01")
    page = client.get(f"{PATH}/stats", params={"taskId": "work", "pageSize": 2}).json()
    assert (page["TotalRecords"], page["TotalFailures"], len(page["Data"])) == (3, 1, 2)
    assert page["Data"][0]["Status"] == "Accepted" and page["Data"][0]["ExecutionDurationSeconds"] is None
    (workflow,) = client.get(f"{BASE}/workflows").json()
    for name in (dag_id, workflow["workflow_id"]):
        assert client.get(f"{PATH}/stats", params={"workflowId": name}).json()["TotalExecutions"] == 7
    assert client.get(f"{PATH}/stats", params={"workflowId": NOTHING}).status_code == 400
    days = client.get(f"{PATH}/dailystats").json()
    assert [sum(day[name] for day in days) for name in counts] == [7, 5, 1, 1] and len(days) <= 2, "two about midnight"
    old = {"endTime": "2024-01-01T00:00:00"}
    assert client.get(f"{PATH}/statsoverview", params=old).json()["TotalExecutions"] == 0
    assert client.get(f"{PATH}/dailystats", params=old).json() == []
    with only(monkeypatch, "nothing"):
        assert client.get(f"{PATH}/statsoverview").json()["TotalExecutions"] == 0
    for name in ("stats", "statsoverview", "dailystats", "running"):
        assert api(None).get(f"{PATH}/{name}").status_code == 401
        bad = client.get(f"{PATH}/{name}", params={"startTime": "x", "pageNumber": "x"})
        assert bad.status_code == 400 and bad.json()["status"] == 400


@pytest.mark.parametrize("status", ["Succeeded", "Failed", "Canceled"])
def test_a_running_task_is_ended_once(api: Api, dag_id: str, site_store: LocalStore, payload: str, status: str) -> None:
    run_id = work_on(site_store, dag_id, payload, "running")
    task = task_of(api("viewer"), payload)
    path = f"{PATH}/{task['execution_id']}"
    assert api("viewer").put(path, json={"status": status}).status_code == 403
    assert api(None).put(path, json={"status": status}).status_code == 401
    for bad in ({"status": "Created"}, {}, {"status": status, "more": 1}, []):
        assert api("op").put(path, json=bad).status_code == 400, bad
    assert state_of_task(dag_id, run_id, "work") == "running"
    client, answers = api("op"), list[Any]()
    threads = [
        threading.Thread(target=lambda: answers.append(client.put(path, json={"status": status}))) for _ in "123"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    (told,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert told["status"] == status and told["execution_id"] == task["execution_id"]
    assert state_of_task(dag_id, run_id, "work") == ("success" if status == "Succeeded" else "failed")
    assert task_of(client, payload)["status"] == status
    assert [event for event, _, _ in events()] == [f"monai.task.{status.lower()}"]
    assert client.put(path, json={"status": status}).status_code == 409
    assert client.put(f"{PATH}/{NOTHING}", json={"status": status}).status_code == 404


def test_each_series_has_its_own_task(api: Api, dag_id: str, site_store: LocalStore, payload: str) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    run_id = work_on(site_store, dag_id, payload, "running")
    client = api("op")
    client.get(f"{PATH}/{NOTHING}")  # it knows the task now as one that does not run for each
    with create_session() as session:
        wanted = select(TaskInstance).where(TaskInstance.run_id == run_id, TaskInstance.task_id == "work")
        session.scalars(wanted).one().map_index = 1
    task = task_of(client, payload)
    assert task["map_index"] == 1
    assert client.get(f"{PATH}/{task['execution_id']}").json() == task
    assert client.put(f"{PATH}/{task['execution_id']}", json={"status": "Canceled"}).json()["status"] == "Canceled"
