"""Two workflows, a payload with images, and runs on it as the gateway and the tasks would have left them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from airflow_monai.store.base import Store
from airflow_monai.store.intake import Instance, Intake
from airflow_monai.store.part10 import Identity
from airflow_monai.store.payloads import run_id_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.api.airflow_rows import parse, run, set_task
from tests.gateway.studies import CT, image

BASE = "/workflow-manager"
NAME, PATIENT, ACCESSION = "Doe^Jane", "PID-77", "ACC-9"
WORKFLOW = """
name: {name}
version: "1"
informatics_gateway: {{ae_title: LOOK, export_destinations: [PACS]}}
tasks:
  - {{id: route, type: router, task_destinations: [{{name: work}}]}}
  - id: work
    type: map
    args: {{map: "lung:1", env_MODE: fast, env_API_TOKEN: hunter2}}
    artifacts:
      input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]
      output: [{{name: seg, type: SEG}}]
    timeout_minutes: 30
    task_destinations: [{{name: send, conditions: ["{{{{ context.executions.work.result.volume }}}} > '5'"]}}]
  - id: send
    type: export
    export_destinations: [{{name: PACS}}]
    artifacts: {{input: [{{name: seg, value: "{{{{ context.executions.work.artifacts.seg }}}}"}}]}}
"""


def write_workflow(folder: Path, name: str) -> str:
    """The DAG of a workflow that is in the site's folder and known to Airflow."""
    text = WORKFLOW.format(name=name)
    (folder / f"{name}.yaml").write_text(text)
    return parse(text)


def receive(store: Store, study: str = "1.2.3", images: int = 2, done: bool = True, **attributes: str) -> str:
    """A payload with images; its id."""
    intake, series = Intake(store), f"{study}.4"
    said = {"PatientName": NAME, "PatientID": PATIENT, "AccessionNumber": ACCESSION, **attributes}
    for number in range(1, images + 1):
        data = image(study, series, number, **said)
        file = store.spool() / f"{study}.{number}.dcm"
        data.save_as(file, enforce_file_format=True)
        payload_id = intake.add(
            Instance(Identity(study, series, data.SOPInstanceUID, CT), "LOOK", "CT01"), file
        ).payload_id
        file.unlink()
    if done:
        intake.close(payload_id)
        intake.done(payload_id)
    return payload_id


def work_on(store: Store, dag_id: str, payload_id: str, state: str = "success", run_id: str = "") -> str:
    """A run with the records of its tasks; its id."""
    run_id = run_id or run_id_of(payload_id)
    run(dag_id, run_id, state, partition_key=payload_id)
    folder = RunFolder(store, payload_id, dag_id, run_id)
    if state in ("success", "failed"):
        output = folder.output_key("work", -1, 1)
        status = TaskStatus.SUCCEEDED if state == "success" else TaskStatus.FAILED
        store.write(f"{output}/seg/DoeJane.dcm", b"seg")
        folder.write_record(
            TaskRecord(
                task_id="work",
                task_type="map",
                status=status,
                execution_id="",
                previous_task_id="route",
                output_dir=output,
                error_msg=None if state == "success" else "it ended with exit code 1",
                result={"volume": 7, "who": NAME},
                stats={"seconds": 2.5, "error_kind": "exit_code"},
                artifacts={"seg": (f"{output}/seg/DoeJane.dcm",)},
            )
        )
        if state == "failed":
            set_task(dag_id, run_id, "send", {"state": "upstream_failed"})
            set_task(dag_id, run_id, "route", {"state": "success"})
    if state == "running":
        now = datetime.now(timezone.utc)
        set_task(dag_id, run_id, "route", {"state": "success", "start_date": now, "end_date": now})
        set_task(dag_id, run_id, "work", {"state": "running", "start_date": now})
    return run_id


@contextmanager
def only(monkeypatch: pytest.MonkeyPatch, *dag_ids: str, data: bool = True) -> Iterator[None]:
    """Whoever calls may see these DAGs and no others: what an auth manager with rights on single DAGs says.

    :param data: also their results and patients.
    """
    from airflow.api_fastapi.app import get_auth_manager

    manager: Any = get_auth_manager()

    def may(*, method: str, access_entity: Any = None, details: Any = None, user: Any) -> bool:
        if access_entity is not None and access_entity.name == "TASK_LOGS" and not data:
            return False
        return details is not None and details.id in dag_ids

    with monkeypatch.context() as patch:
        patch.setattr(manager, "is_authorized_dag", may)
        yield


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL statements of the block."""
    from airflow import settings

    said: list[str] = []

    def heard(_c: object, _k: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(settings.engine, "before_cursor_execute", heard)
    try:
        yield said
    finally:
        event.remove(settings.engine, "before_cursor_execute", heard)


def events() -> list[tuple[str, str | None, str | None]]:
    """Event, DAG and extra of the audit log's entries of ours, the oldest first."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.execute(select(Log.event, Log.dag_id, Log.extra).order_by(Log.id)).all()
    return [tuple(row) for row in found if row[0].startswith("monai.")]


def of_instance(client: TestClient, payload_id: str) -> dict[str, Any]:
    """The one instance on a payload."""
    (found,) = client.get(f"{BASE}/workflowinstances", params={"payloadId": payload_id}).json()["Data"]
    return dict(found)
