"""What a person sees of an application while its task runs: the task's page in the UI asks for this."""

from __future__ import annotations

import shutil
from typing import Any

import requests

from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import run_id_of
from tests.conftest import require
from tests.e2e.helpers import NOOP, Maps
from tests.operators.map_tasks import make_payload

DAG_ID = "shows-progress"
DAG = """
from airflow.sdk import DAG
from airflow_monai.operators.map import MapOperator

with DAG("shows-progress", schedule=None, is_paused_upon_creation=False):
    MapOperator(task_id="make", map="shows-progress:1.0.0", runner="process")
"""
APPLICATION = """
import json, time

for percent in range(0, 101, 5):
    print("MONAI_PROGRESS", json.dumps({"percent": percent, "stage": "inference"}), flush=True)
    time.sleep(0.5)
"""


def test_progress_is_on_the_task_s_page_while_it_runs(stack: LocalStack, maps: Maps) -> None:
    require("bubblewrap")
    folder = maps.folder / DAG_ID
    shutil.copytree(NOOP, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "app" / "__main__.py").write_text(APPLICATION)
    assert stack.options.dags is not None
    (stack.options.dags / "shows_progress.py").write_text(DAG)
    stack.wait_for_dag(DAG_ID)
    payload_id = make_payload(str(stack.layout.store))
    run_id = run_id_of(payload_id)
    body = {"dag_run_id": run_id, "logical_date": None, "conf": {"payload_id": payload_id}}
    stack.api.call("POST", f"/dags/{DAG_ID}/dagRuns", body)
    page = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/make/state-store"

    def shown() -> dict[str, Any]:
        try:
            (entry,) = stack.api.call("GET", page)["task_state_store"]
        except (requests.HTTPError, ValueError):
            return {}
        states = stack.states(DAG_ID, run_id)
        assert states["make"] == "running", "it is shown too late"
        return {**entry["value"], "key": entry["key"]}

    first = stack.wait_for(shown, seconds=180, what="progress of the task", every=0.3)
    assert first["key"] == "progress" and first["stage"] == "inference" and 0 < first["percent"] < 100
    assert stack.wait_for_run(DAG_ID, run_id)["state"] == "success"
    (entry,) = stack.api.call("GET", page)["task_state_store"]
    assert entry["value"]["percent"] == 100
    told = stack.api.xcom(DAG_ID, run_id, "make")
    assert told["peak_memory_bytes"] > 2**20 and told["cpu_seconds"] > 0 and told["queue_seconds"] < 300
