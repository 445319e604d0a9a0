"""Ends a task as marking it in Airflow does: its process is told to stop, and what comes after it is decided."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from airflow_monai.api.instances.runs import Run, Task
from airflow_monai.api.workflow_manager.executions import facts_of, folder_of
from airflow_monai.api.workflow_manager.statuses import UNFINISHED
from airflow_monai.store.base import Store
from airflow_monai.store.runs import CANCELED


class HasEnded(Exception):
    """The task has ended by itself, or somebody else has ended it."""


def end_task(store: Store, run: Run, task: Task, *, success: bool, canceled_by: str = "") -> None:
    """
    :param canceled_by: whoever cancels it; empty where it is to have failed.
    :raises HasEnded: when there is nothing to end.
    """
    from airflow.api_fastapi.core_api.datamodels.task_instances import BulkTaskInstanceBody
    from airflow.api_fastapi.core_api.services.public.task_instances import _patch_task_instance_state

    state = TaskInstanceState.SUCCESS if success else TaskInstanceState.FAILED
    with create_session() as session:
        wanted = select(TaskInstance).where(
            TaskInstance.dag_id == run.dag_id,
            TaskInstance.run_id == run.run_id,
            TaskInstance.task_id == task.task_id,
            TaskInstance.map_index == task.map_index,
        )
        # one of several that want to end it does
        found = session.scalar(wanted.with_for_update(of=TaskInstance))
        the_run = session.scalar(select(DagRun).where(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id))
        dag = DBDagBag().get_dag_for_run(the_run, session=session) if the_run is not None else None
        if found is None or dag is None or str(found.state or "") not in UNFINISHED:
            raise HasEnded
        if canceled_by:  # first: a task that is killed in between has then been canceled, as it was wanted
            _note_canceled(store, run, task, canceled_by)
        body = BulkTaskInstanceBody(task_id=task.task_id, map_index=task.map_index, new_state=state)
        _patch_task_instance_state(
            task_id=task.task_id,
            dag_run_id=run.run_id,
            dag=dag,
            task_instance_body=body,
            data={"new_state": state},
            session=session,
        )


def _note_canceled(store: Store, run: Run, task: Task, by: str) -> None:
    folder = folder_of(store, run)
    if folder is not None:
        generation = facts_of(folder, task).generation
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        store.create_json(folder.note_key(task.task_id, task.map_index, generation, CANCELED), {"by": by, "at": now})
