"""DAGs and runs in Airflow's database, as its DAG processor and scheduler would have put them there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from airflow_monai.factory.builder import build_dag
from airflow_monai.specs.compile import plan_of
from airflow_monai.specs.reading import load_text

BUNDLE = "workflows"
_CODE = TemporaryDirectory(prefix="api-dags-")


def parse(text: str) -> str:
    """Have Airflow know the DAG of a workflow text; its id."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    dag = build_dag(plan_of(load_text(text, "test.yaml")))
    file = Path(_CODE.name) / f"{dag.dag_id}.py"  # Airflow keeps the text of a DAG's file
    file.write_text(text)
    dag.fileloc, dag.relative_fileloc = str(file), file.name
    with create_session() as session:
        if session.get(DagBundleModel, BUNDLE) is None:
            session.add(DagBundleModel(name=BUNDLE))
            session.flush()
        update_dag_parsing_results_in_db(BUNDLE, None, [LazyDeserializedDAG.from_dag(dag)], {}, None, set(), session)
    return str(dag.dag_id)


def run(dag_id: str, run_id: str, state: str = "success", **changes: Any) -> None:
    """Have a run with its task instances in this state.

    :param changes: attributes of the run.
    """
    at = datetime.now(timezone.utc) - timedelta(minutes=1)
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        assert dag is not None
        made = dag.create_dagrun(
            run_id=run_id,
            logical_date=None,
            data_interval=None,
            run_after=at,
            conf={},
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.QUEUED,
            partition_key=changes.pop("partition_key", None),
            session=session,
        )
        made.state = DagRunState(state)
        made.start_date = at if state != "queued" else None
        made.end_date = at + timedelta(seconds=30) if state in ("success", "failed") else None
        for name, value in changes.items():
            setattr(made, name, value)
        if state in ("success", "failed"):
            for instance in made.get_task_instances(session=session):
                instance.state, instance.start_date, instance.end_date = state, at, at + timedelta(seconds=20)


def set_task(dag_id: str, run_id: str, task_id: str, values: Mapping[str, Any]) -> None:
    """Set attributes of a task instance."""
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    with create_session() as session:
        wanted = select(TaskInstance).where(
            TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id == task_id
        )
        for instance in session.scalars(wanted):
            for name, value in values.items():
                setattr(instance, name, value)


def state_of(dag_id: str, run_id: str) -> str:
    from sqlalchemy import select

    with create_session() as session:
        return str(session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)))
