"""Runs workflows in Airflow's DAG test mode; one process for many, since Airflow's start costs more than a run.

Reads one JSON object a line: ``text`` (of a workflow file), ``series`` (how many the study has) and ``scripts`` (task
id -> {"fail": bool or [series...], "result": {...}}); answers one a line: ``run`` (state of the DAG run) and ``tasks``
(task id -> state, ``<task id>[<series>]`` for each series). Map and export tasks do what their script says, and say the
series that they see as ``seen`` of their result; everything around them (records, XCom, edges, gates, joins, mapping)
is the real thing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PAYLOAD_ID = "0a1b2c3d-0000-4000-8000-00000000000{series}"
MAX_SERIES = 3


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Airflow prints must not get among the answers
    _prepare()
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line))
        except Exception:  # noqa: BLE001 - told to the test, which fails with it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


def _prepare() -> None:
    from airflow.utils.db import initdb

    logging.disable(logging.WARNING)
    initdb()
    for series in range(MAX_SERIES + 1):
        _write_payload(PAYLOAD_ID.format(series=series), series)


def _write_payload(payload_id: str, series: int) -> None:
    """A study of so many series, whose Series Number is their place in it."""
    from airflow_monai import settings
    from airflow_monai.store import open_store
    from airflow_monai.store.payloads import manifest_key, tags_key
    from airflow_monai.types import PatientDetails, Payload, PayloadFile

    times = dict.fromkeys(("received_first", "received_last", "closed"), "2026-01-01T00:00:00+00:00")
    uids = [f"1.2.3.{number}" for number in range(series)]
    files = [PayloadFile(f"dcm/1.2.3/{uid}/{uid}.1.dcm", 1, f"{uid}.1", "1.2", uid, "1.2") for uid in uids]
    patient = PatientDetails(sex="M")
    payload = Payload(payload_id, "1.2.3", "CTLUNG", ("CT01",), 0, tuple(files), **times, patient=patient)
    store = open_store(settings.load().store)
    store.write_json(manifest_key(payload_id), payload.to_dict())
    store.write_json(tags_key(payload_id), {uid: {"00200011": [str(number)]} for number, uid in enumerate(uids)})


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    dag = _build(request["text"], request["scripts"])
    _register(dag)
    run = dag.test(run_conf={"payload_id": PAYLOAD_ID.format(series=request["series"])})
    return {"run": str(run.state), "tasks": {_name(ti): str(ti.state) for ti in run.get_task_instances()}}


def _name(ti: Any) -> str:
    return ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"


def _build(text: str, scripts: dict[str, Any]) -> Any:
    from airflow_monai.factory.builder import build_dag
    from airflow_monai.factory.compile import compile_plan
    from airflow_monai.factory.kinds import KINDS, TaskKind
    from airflow_monai.specs.plan import TaskType

    scripted = TaskKind(lambda request: _scripted(request, scripts.get(request.task.id, {})))
    kinds = {**KINDS, TaskType.MAP: scripted, TaskType.EXPORT: scripted}
    plan = compile_plan(text, "property.yaml")
    dag = build_dag(replace(plan, dag_id=f"property-{uuid.uuid4().hex[:12]}"), kinds=kinds)
    for task in dag.tasks:
        task.retries = 0
    return dag


def _scripted(request: Any, script: dict[str, Any]) -> Any:
    from airflow_monai.errors import MonaiError
    from airflow_monai.factory.kinds.base import monai_arguments
    from airflow_monai.operators.base import MonaiOperator
    from airflow_monai.tasks.run import Outcome, condition_context

    class ScriptedOperator(MonaiOperator):
        spec_type = "map"

        def perform(self, run: Any, context: Any) -> Outcome:
            fails = script.get("fail", False)
            if run.map_index in fails if isinstance(fails, list) else fails:
                raise MonaiError("the script says so")
            seen = [series for series, tags in condition_context(run).series_tags().items()]
            number = seen[0].rpartition(".")[2] if len(seen) == 1 else "all"
            return Outcome(result={"seen": number, **script.get("result", {})})

    common = {**request.common, "retries": 0}
    return ScriptedOperator(**monai_arguments(request), **common)


def _register(dag: Any) -> None:
    """What the DAG processor does with a parsed DAG."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    dag.fileloc = str(Path(os.environ["AIRFLOW_HOME"]) / "dags" / "empty.py")
    dag.relative_fileloc = "empty.py"
    bag = SimpleNamespace(dags={dag.dag_id: dag}, import_errors={}, dag_warnings=set(), bundle_path=None)
    sync_bag_to_db(bag, "property", None)


if __name__ == "__main__":
    main()
