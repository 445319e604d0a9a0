"""Has a task run once more from within the API server, as Airflow's own route does."""

from __future__ import annotations

from airflow.exceptions import AirflowClearRunningTaskException
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import select

from airflow_monai.sinks.ledger.cleared import Cleared


def clear_task(dag_id: str, run_id: str, task_id: str, note: str, user_id: str) -> Cleared:
    """Have one task of a run run once more, and nothing after it.

    :param note: shown with the task in the UI, and ``user_id``: whose it is.
    """
    from airflow.api_fastapi.common.dagbag import resolve_run_on_latest_version

    with create_session() as session:
        # of several that want that one does it
        wanted = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        run = session.scalar(wanted.with_for_update())
        dag = DBDagBag().get_dag_for_run(run, session=session) if run is not None else None
        if dag is None or not dag.has_task(task_id):
            return Cleared.GONE
        of_task = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id == task_id)
        states = {str(state) for state in session.scalars(select(TaskInstance.state).where(*of_task))}
        already = Cleared.already(states)
        if already is not None:
            return already
        latest = resolve_run_on_latest_version(None, dag_id, session)
        tasks = list(
            dag.clear(dry_run=True, task_ids=[task_id], run_id=run_id, session=session, run_on_latest_version=latest)
        )
        try:
            clear_task_instances(
                tasks, session, DagRunState.QUEUED, run_on_latest_version=latest, prevent_running_task=True
            )
        except AirflowClearRunningTaskException:  # it has begun since
            session.rollback()
            return Cleared.RUNNING
        for task in tasks:
            if task.task_instance_note is None:
                task.note = (note[:1000], user_id)
            else:
                task.task_instance_note.content, task.task_instance_note.user_id = note[:1000], user_id
    return Cleared.YES
