"""`airflow monai instances`, `tasks`, `credentials`, and `payloads` of a server."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.api.workflow_manager import health
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import instance_id_of
from tests.api.workflow_manager.scene import ACCESSION, NAME, receive, work_on, write_workflow

Command = Callable[..., str]
NOTHING = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def dag_id(command: Command, site_store: LocalStore, tmp_path: Path) -> str:
    return write_workflow(tmp_path / "workflows", "look")


@pytest.fixture
def payload(site_store: LocalStore) -> str:
    return receive(site_store)


def test_a_failed_instance_is_found_and_acknowledged(
    command: Command, dag_id: str, payload: str, site_store: LocalStore
) -> None:
    instances = partial(command, "instances", who="user")
    instance = instance_id_of(dag_id, work_on(site_store, dag_id, payload, "failed"))
    assert [one["id"] for one in json.loads(instances("list", "--status", "Failed", "--json"))] == [instance]
    assert json.loads(instances("list", "--payload", NOTHING, "--json")) == []
    assert instance in instances("list", "--limit", "1") and instance in instances("failed")
    shown = json.loads(instances("show", instance, "--json"))
    execution = next(task["execution_id"] for task in shown["tasks"] if task["status"] == "Failed")
    assert execution in instances("show", instance)
    assert f"Acknowledged {execution}" in instances("acknowledge", instance, execution)
    assert json.loads(instances("failed", "--json")) == []
    instances("acknowledge", instance, NOTHING, code=1)
    assert "no such" in instances("show", NOTHING, code=1)


def test_a_running_task_is_ended_by_hand(command: Command, dag_id: str, payload: str, site_store: LocalStore) -> None:
    tasks = partial(command, "tasks", who="user")
    work_on(site_store, dag_id, payload, "running")
    (running,) = [one for one in json.loads(tasks("running", "--json")) if one["task_id"] == "work"]
    execution = running["execution_id"]
    assert execution in tasks("running") and "status: Accepted" in tasks("show", execution)
    assert "no right" in tasks("set", execution, "--status", "Canceled", code=1, who="viewer")
    assert "is Canceled" in tasks("set", execution, "--status", "Canceled")
    assert "ended already" in tasks("set", execution, "--status", "Succeeded", code=1)


def test_a_payload_is_fetched_and_deleted(command: Command, payload: str) -> None:
    payloads = partial(command, "payloads", who="user")
    payloads("download", payload)
    assert len(zipfile.ZipFile(f"{payload}.zip").namelist()) == 2
    told = json.loads(payloads("download", payload, "--output", "deep/er.zip", "--json"))
    assert told == {"file": "deep/er.zip", "size": Path("deep/er.zip").stat().st_size}
    assert payload in payloads("delete", payload, "--reason", "a mistake")
    payloads("download", NOTHING, code=1)
    assert not Path(f"{NOTHING}.zip").exists()


def test_payloads_are_listed_and_shown_and_patients_only_where_that_is_asked(
    command: Command, dag_id: str, payload: str, site_store: LocalStore
) -> None:
    payloads = partial(command, "payloads", who="user")
    other = receive(site_store, "1.2.9", PatientID="OTHER-1", PatientName="Roe^Richard")
    instance = instance_id_of(dag_id, work_on(site_store, dag_id, payload))
    assert {one["id"] for one in json.loads(payloads("list", "--json"))} == {payload, other}
    listed = payloads("list", "--patient-name", "doe")
    assert payload in listed and dag_id in listed and other not in listed and NAME not in listed
    assert json.loads(payloads("list", "--called", "ELSE", "--json")) == []
    for since, found in (("1h", 2), ("2100-01-01", 0)):
        assert len(json.loads(payloads("list", "--called", "LOOK", "--since", since, "--json"))) == found
    assert len(payloads("list", "--limit", "1").splitlines()) == 2
    assert "leave it out" in payloads("list", "--state", "open", code=2)
    shown = payloads("show", payload)
    assert instance in shown and "file count: 2" in shown and NAME not in shown and ACCESSION not in shown
    assert NAME in payloads("show", payload, "--patient")
    assert len(json.loads(payloads("show", payload, "--json"))["files"]) == 2
    assert "no payload" in payloads("show", NOTHING, code=1)


def test_tasks_are_counted(command: Command, dag_id: str, payload: str, site_store: LocalStore) -> None:
    tasks = partial(command, "tasks", who="user")
    work_on(site_store, dag_id, payload, "running")
    running = json.loads(tasks("running", "--json"))
    execution = next(one["execution_id"] for one in running if one["task_id"] == "work")
    assert execution in tasks("list", "--since", "1h") and execution not in tasks("list", "--until", "1h")
    counted = json.loads(tasks("stats", "--workflow", dag_id, "--json"))
    assert (counted["TotalExecutions"], counted["TotalSucceeded"], counted["TotalInprogress"]) == (2, 1, 1)
    assert "total inprogress: 1" in tasks("stats", "--task", "work", "--since", "1h")
    days = json.loads(tasks("stats", "--daily", "--json"))  # two about midnight
    assert sum(day["TotalExecutions"] for day in days) == 2 and len(days) <= 2
    assert "TOTAL EXECUTIONS" in tasks("stats", "--daily")
    assert [one["TaskId"] for one in json.loads(tasks("stats", "--each", "--limit", "1", "--json"))] == ["route"]
    assert "no such workflow" in tasks("stats", "--workflow", "none", code=1)
    assert "not both" in tasks("stats", "--each", "--daily", code=2)
    assert "--until 'soon'" in tasks("stats", "--until", "soon", code=2)


def test_health_is_told_to_anybody(
    command: Command, site_store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_kept", health.Kept(health.look))
    monkeypatch.delenv("MONAI_USER", raising=False)
    told = command("health", who="")
    assert "status: Healthy" in told and "gateway" in told
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", "s3://none-of-ours?endpoint=nonsense")
    monkeypatch.setattr(health, "_kept", health.Kept(health.look))
    command("health", code=1, who="")
    monkeypatch.setenv("MONAI_URL", "http://127.0.0.1:1")
    assert "does not answer" in command("health", code=2, who="")


def test_a_credential_keeps_what_an_update_does_not_say(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = partial(command, "credentials")
    monkeypatch.setenv("TOKEN", "hush-hush")
    words = (
        "--type",
        "bearer",
        "--host",
        "https://ai.hospital.example",
        "--option",
        "verify=false",
        "--secret-env",
        "TOKEN",
    )
    told = credentials("create", "seg", *words)
    assert "already" in credentials("create", "seg", *words, code=1)
    told += credentials("update", "seg", "--description", "renewed")
    shown = json.loads(credentials("show", "seg", "--json"))
    assert (shown["host"], shown["has_secret"], shown["options"], shown["description"]) == (
        "https://ai.hospital.example", True, ["verify"], "renewed",
    )  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    told += credentials("update", "seg", "--secret-stdin")
    assert _extra("seg")["headers"] == {"Authorization": "Bearer another"}
    told += credentials("list") + credentials("list", "--type", "bearer", "--json")
    assert "seg" in told and "hush-hush" not in told and "another" not in told
    assert json.loads(credentials("list", "--type", "basic", "--json")) == []
    credentials("update", "none", "--host", "x", code=1)
    credentials("delete", "seg")
    credentials("show", "seg", code=1)


def _extra(conn_id: str) -> dict[str, Any]:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalars(select(Connection).where(Connection.conn_id == conn_id)).one().extra_dejson
