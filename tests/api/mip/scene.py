"""A workflow of three modules, and what its tasks would have left, had they run."""

from __future__ import annotations

import uuid
from hashlib import sha256
from tempfile import TemporaryDirectory
from typing import Any

from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.datasets.model import NewFile
from airflow_monai.local.phantom import generate
from airflow_monai.mip.model import RunId
from airflow_monai.store.base import Store
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.api import airflow_rows

DAG = "chain"
SPEC = """\
name: chain
version: 2.0.0
informatics_gateway: {ae_title: CHAIN}
tasks:
  - id: a
    type: map
    args: {map: "noop:1.0.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: result, type: OT}]
    task_destinations:
      - {name: b, conditions: ["{{ context.executions.a.result.volume_ml }} > '10'"]}
      - {name: d, conditions: ["{{ context.executions.a.result.volume_ml }} <= '10'"]}
  - id: b
    type: map
    args: {map: "noop:1.0.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: result, type: OT}]
    task_destinations: [{name: c}]
  - id: c
    type: map
    args: {map: "noop:1.1.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: result, type: OT}]
  - id: d
    type: map
    args: {map: "noop:1.0.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: result, type: OT}]
"""
TASKS = ("a", "b", "c", "d")


def dataset(store: Store, name: str = "PEACH", by: str = "anna") -> str:
    """A study in the store that is a map of this name; its id."""
    with TemporaryDirectory() as folder:
        study = generate(folder, slices=1, rows=16)
        files = [
            NewFile(
                path, f"dcm/{study.study_uid}/1/{sop}.dcm", path.stat().st_size, sha256(path.read_bytes()).hexdigest()
            )
            for path, sop in zip(study.files, study.sop_uids, strict=True)
        ]
        made, _ = Datasets(store).make(files, name=name, by=by, source="upload")
    return made.id


def states(run_id: str) -> dict[str, str | None]:
    """Task id -> state, of the DAG run of a run."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    parsed = RunId.parse(run_id)
    assert parsed is not None
    with create_session() as session:
        rows = session.execute(
            select(TaskInstance.task_id, TaskInstance.state).where(TaskInstance.run_id == parsed.dag_run_id)
        )
        return {row[0]: row[1] for row in rows}


def triggered_by(run_id: str) -> str | None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalar(select(DagRun.triggering_user_name).where(DagRun.run_id == f"mip__{run_id}"))


def set_run(run_id: str, state: str) -> None:
    from datetime import datetime, timezone

    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == f"mip__{run_id}"))
        assert run is not None
        run.state = state
        run.start_date = datetime.now(timezone.utc)
        run.end_date = datetime.now(timezone.utc) if state in ("success", "failed") else None


def work(
    store: Store, payload_id: str, run_id: str, *, fails: str = "", error: str = "", volume: int = 100
) -> list[str]:
    """Do what the scheduler and the workers would; the tasks that ran, in their order."""
    ran: list[str] = []
    failed = False
    for task in TASKS:
        if states(run_id)[task] is not None:
            continue
        if failed:
            airflow_rows.set_task(DAG, f"mip__{run_id}", task, {"state": "upstream_failed"})
            continue
        if task == "d" and volume > 10:
            airflow_rows.set_task(DAG, f"mip__{run_id}", task, {"state": "skipped"})
            continue
        failed = task == fails
        leave(store, payload_id, run_id, task, failed=failed, error=error, result={"volume_ml": volume})
        airflow_rows.set_task(DAG, f"mip__{run_id}", task, {"state": "failed" if failed else "success"})
        ran.append(task)
    set_run(run_id, "failed" if failed else "success")
    return ran


def leave(store: Store, payload_id: str, run_id: str, task: str, **more: Any) -> None:
    """The record, the outputs and the log of a task."""
    folder = RunFolder(store, payload_id, DAG, f"mip__{run_id}")
    output = folder.output_key(task, -1, 1)
    failed, error = more.pop("failed", False), more.pop("error", "")
    keys = (f"{output}/result/one.txt",)
    store.write(keys[0], f"{task} of {run_id}".encode())
    store.write(f"{output}/temp/scratch.bin", b"temporary")
    store.write(folder.log_key(task, -1, 1), f"log of {task}\n".encode())
    folder.write_record(
        TaskRecord(
            task,
            "map",
            TaskStatus.FAILED if failed else TaskStatus.SUCCEEDED,
            str(uuid.uuid4()),
            output_dir=output,
            artifacts={"result": keys},
            error_msg=f"Task {task}: {error or 'it broke.'}" if failed else None,
            **more,
        )
    )
