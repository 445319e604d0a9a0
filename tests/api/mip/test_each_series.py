"""Modules that run for each series: taken over as a whole, and what Airflow's scheduler makes of such a run then."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.datasets.model import NewFile
from airflow_monai.store.local import LocalStore
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.api import airflow_rows
from tests.api.app_server.conftest import dicom, new_uid
from tests.api.mip import scene

Api = Callable[[str | None], TestClient]
DAG = "each"
SPEC = """\
name: each
version: 2.0.0
informatics_gateway: {ae_title: EACH}
tasks:
  - id: a
    type: map
    for_each: series
    args: {map: "noop:1.0.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: result, type: OT}]
    task_destinations: [{name: b}]
  - id: b
    type: map
    for_each: series
    args: {map: "noop:1.0.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: result, type: OT}]
    task_destinations: [{name: c, conditions: ["{{ context.executions.b.result.volume_ml }} > '10'"]}]
  - id: c
    type: map
    for_each: series
    args: {map: "noop:1.1.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: result, type: OT}]
"""


@pytest.fixture
def payload(api: Api, site_store: LocalStore, tmp_path: Path) -> str:
    """Of the map PEACH, with two series; the workflow is there."""
    (tmp_path / "workflows" / "each.yaml").write_text(SPEC)
    airflow_rows.parse(SPEC)
    study, files = new_uid(), []
    for number in (1, 2):
        path, data = tmp_path / f"{number}.dcm", dicom(study, f"{study}.{number}", number)
        path.write_bytes(data)
        place = f"dcm/{study}/{study}.{number}/{study}.{number}.{number}.dcm"
        files.append(NewFile(path, place, len(data), sha256(data).hexdigest()))
    return Datasets(site_store).make(files, name="PEACH", by="anna", source="upload")[0].id


def asked(client: TestClient, *modules: str, **more: Any) -> str:
    body = {"job": "alpha", "modules": list(modules), "map": "PEACH", "force_rerun": False, "openai_key": "", **more}
    answer = client.post("/mip/runs", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run_id"])


def has_run(store: LocalStore, payload: str, run_id: str, *modules: str, bad: str = "") -> None:
    """What the workers would have left, for both series."""
    folder = RunFolder(store, payload, DAG, f"mip__{run_id}")
    for module in modules:
        for index in (0, 1):
            output = folder.output_key(module, index, 1)
            store.write(f"{output}/result/one.txt", f"{module} {index} of {run_id}".encode())
            failed = f"{module}{index}" == bad
            status = TaskStatus.FAILED if failed else TaskStatus.SUCCEEDED
            made: dict[str, Any] = {"output_dir": output, "artifacts": {"result": (f"{output}/result/one.txt",)}}
            made |= {"result": {"volume_ml": 100}, "map_index": index}
            folder.write_record(TaskRecord(module, "map", status, str(uuid.uuid4()), **made))
        airflow_rows.set_task(DAG, f"mip__{run_id}", module, {"state": "failed" if module in bad else "success"})
    scene.set_run(run_id, "failed" if bad else "success")


def states(run_id: str) -> dict[str, dict[int, str | None]]:
    """Task id -> map index -> state."""
    found: dict[str, dict[int, str | None]] = {}
    with create_session() as session:
        rows = session.execute(
            select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state).where(
                TaskInstance.run_id == f"mip__{run_id}"
            )
        )
        for task_id, index, state in rows:
            found.setdefault(task_id, {})[index] = state
    return found


def schedule(run_id: str) -> set[tuple[str, int]]:
    """What Airflow's scheduler would have run next, in its own words: task id and map index."""
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.run_id == f"mip__{run_id}")).one()
        run.dag = DBDagBag().get_latest_version_of_dag(DAG, session=session)
        run.state = "running"
        decision = run.task_instance_scheduling_decisions(session=session)
        return {(instance.task_id, instance.map_index) for instance in decision.schedulable_tis}


def test_a_module_is_taken_over_for_all_series(api: Api, site_store: LocalStore, payload: str) -> None:
    client = api("op")
    has_run(site_store, payload, asked(client, "b"), "a", "b")
    second = asked(client, "c")
    assert client.get(f"/mip/runs/{second}").json()["status"] == "not started"
    made = states(second)
    assert made["b"] == {0: "success", 1: "success"} and made["a"] == {-1: "skipped"}
    assert made["a.series"] == {-1: "success"} and made["c"] == {-1: None}
    # the way out of b is judged for each series, and c runs where it leads there
    gate = "b.to.c"
    assert schedule(second) == {(gate, 0), (gate, 1)}
    airflow_rows.set_task(DAG, f"mip__{second}", gate, {"state": "success"})
    assert schedule(second) == {("c", 0), ("c", 1)}
    folder = RunFolder(site_store, payload, DAG, f"mip__{second}")
    assert [record.map_index for record in folder.records("b")] == [0, 1], "c finds what b made"
    has_run(site_store, payload, second, "c")
    told = client.get(f"/mip/runs/{second}").json()
    assert told["status"] == "passed" and "b: taken over from run alpha-1" in told["log"]
    archive = client.get("/mip/modules/alpha/b/outputs")
    assert archive.status_code == 200 and b"b 1 of alpha-1" in archive.content


def test_forced_it_runs_for_all_series_anew(api: Api, site_store: LocalStore, payload: str) -> None:
    client = api("op")
    has_run(site_store, payload, asked(client, "b"), "a", "b")
    forced = asked(client, "b", force_rerun=True)
    made = states(forced)
    assert made["a"] == {0: "success", 1: "success"} and made["b"] == {-1: None} and made["c"] == {-1: "skipped"}
    assert schedule(forced) == {("b", 0), ("b", 1)}
    has_run(site_store, payload, forced, "b")
    both = asked(client, "a", "b", force_rerun=True)
    made = states(both)
    assert made["a"] == made["b"] == made["a.series"] == {-1: None}
    assert schedule(both) == {("a.series", -1)}


def test_one_that_failed_for_a_series_is_not_taken_over(api: Api, site_store: LocalStore, payload: str) -> None:
    client = api("op")
    has_run(site_store, payload, asked(client, "b"), "a", "b", bad="b1")
    again = asked(client, "b")
    made = states(again)
    assert made["a"] == {0: "success", 1: "success"} and made["b"] == {-1: None}
