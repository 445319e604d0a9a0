"""Runs in a store as they are after their DAG runs."""

from __future__ import annotations

import uuid

from airflow_monai.mip.ledger import Ledger, now, summed_up
from airflow_monai.mip.model import NOTHING_YET, Decision, Ended, Plan, Result, Run, RunId, Status
from airflow_monai.store.base import Store
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus

PAYLOAD = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


def asked_for(job: str = "alpha", **more: object) -> Run:
    facts = {
        "run_id": RunId(job, 1),
        "dag_id": "chain",
        "modules": ("a",),
        "map": "WY CO/Peach",
        "payload_id": PAYLOAD,
        "force_rerun": False,
        "submitted": now(),
        "user": "anna",
    }
    return Run(**{**facts, **more})  # type: ignore[arg-type]


def passed(store: Store, run: Run, *modules: str) -> Ended:
    """The run has ended, and these modules of it have passed."""
    results = {}
    for module in modules:
        folder = RunFolder(store, PAYLOAD, run.dag_id, run.run_id.dag_run_id)
        output = folder.output_key(module, -1, 1)
        key = f"{output}/result/{module}.txt"
        store.write(key, f"made by {module}".encode())
        store.write(f"{output}/tmp/scratch", b"of no use")
        record = TaskRecord(
            module, "map", TaskStatus.SUCCEEDED, str(uuid.uuid4()), output_dir=output, artifacts={"r": (key,)}
        )
        folder.write_record(record)
        results[module] = Result(
            module, Status.PASSED, run.map, PAYLOAD, run.dag_id, run.run_id.dag_run_id, str(run.run_id), "1.0.0"
        )
    plan = Plan(dict.fromkeys(modules, Decision.RUN), {}, {})
    return Ledger(store).end(run, summed_up(run, plan, NOTHING_YET, results, Status.PASSED, (now(), now())))
