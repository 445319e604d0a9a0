"""A registered MAP with its DAG, a dataset, and what scheduler and workers would do for its jobs."""

from __future__ import annotations

import uuid
from typing import Any

from airflow_monai.api.instances.ids import ids
from airflow_monai.jobs.requests import now_text
from airflow_monai.maps.registry import MapRegistry, RegisteredMap
from airflow_monai.maps.workflows import TASK, workflow_text
from airflow_monai.store.base import Store
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import Payload, PayloadFile, TaskRecord, TaskStatus
from tests.api import airflow_rows
from tests.maps.registered import digest, image_map

URL = "/app-server/jobs"
LABEL = "lung:1.0.0"
DAG = "map.lung.1.0.0"


def register(store: Store, name: str = "lung", version: str = "1.0.0", *, parsed: bool = True, **more: Any) -> str:
    """A registered MAP; its label."""
    record, _ = MapRegistry(store).register(image_map(name, version, **more))
    if parsed:
        parse(record)
    return record.label


def parse(record: RegisteredMap) -> str:
    """Have Airflow know its DAG."""
    return airflow_rows.parse(workflow_text(record))


def dataset(store: Store) -> str:
    """A study in the store; its id."""
    payload_id = str(uuid.uuid4())
    file = PayloadFile("dcm/1.2/1.2.3/1.2.3.4.dcm", 4, "1.2.3.4", "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.1")
    made = Payload(payload_id, "1.2", "LUNG", ("CT01",), 0, (file,), now_text(), now_text(), now_text())
    store.write(f"payloads/{payload_id}/{file.path}", b"DICM")
    store.write_json(f"payloads/{payload_id}/payload.json", made.to_dict())
    return payload_id


def set_run(job_id: str, run_state: str, task_state: str | None) -> None:
    """Have a job's run and its MAP's task in these states."""
    from datetime import datetime, timezone

    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        name = ids.run(job_id, session)
        assert name is not None
        wanted = select(DagRun).where(DagRun.dag_id == name.dag_id, DagRun.run_id == name.run_id)
        run = session.scalars(wanted).one()
        now = datetime.now(timezone.utc)
        run.state = run_state
        run.start_date = now
        run.end_date = now if run_state in ("success", "failed") else None
    begun = task_state not in (None, "scheduled", "queued")
    airflow_rows.set_task(name.dag_id, name.run_id, TASK, {"state": task_state, "start_date": now if begun else None})


def finish(store: Store, job: dict[str, Any], *, error: str = "", generation: int = 1) -> RunFolder:
    """Do what the worker would: results, a log, a record, and the states."""
    set_run(job["id"], "failed" if error else "success", "failed" if error else "success")
    folder = folder_of(store, job)
    output = folder.output_key(TASK, -1, generation)
    keys = (f"{output}/a/seg.dcm", f"{output}/report.txt")
    if not error:
        store.write(keys[0], b"segmentation")
        store.write(keys[1], b"all is well")
    store.write(folder.log_key(TASK, -1, generation), b"a line for Mrs Planted\n")
    folder.write_record(
        TaskRecord(
            TASK,
            "map",
            TaskStatus.FAILED if error else TaskStatus.SUCCEEDED,
            str(uuid.uuid4()),
            generation=generation,
            output_dir=None if error else output,
            artifacts={} if error else {"results": keys},
            result={} if error else {"patient": "Planted"},
            error_msg=error or None,
            stats={
                "digest": digest("a"),
                "seconds": 2.5,
                "peak_memory_bytes": 1024,
                "exit_code": 0,
                "runner": "docker",
            },
        )
    )
    return folder


def folder_of(store: Store, job: dict[str, Any]) -> RunFolder:
    from airflow.utils.session import create_session

    with create_session() as session:
        name = ids.run(job["id"], session)
    assert name is not None
    return RunFolder(store, job["dataset"], name.dag_id, name.run_id)
