"""Jobs as Airflow's tables have them: the runs of registered MAPs' workflows, each with the task that runs the MAP."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from airflow_monai.api.instances.ids import RunName
from airflow_monai.api.instances.runs import (
    MAX_PAGE,
    RUN_COLUMNS,
    TASK_COLUMNS,
    Listed,
    Run,
    RunFilter,
    Task,
    is_cancelled,
    run_from,
    same_run,
    task_from,
    total_of,
)
from airflow_monai.jobs.status import WAITING_STATES, JobStatus, status_of
from airflow_monai.maps.workflows import PREFIX, TASK

_PROGRESS = "progress"
"""Key under which a task tells its progress (:mod:`airflow_monai.operators.progress`)."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """
    :param task: the one that runs the MAP; None for a run that has it no more.
    """

    run: Run
    task: Task | None

    @property
    def status(self) -> JobStatus:
        return status_of(self.run.state, self.task.state if self.task else "", cancelled=self.run.cancelled is not None)


def list_jobs(
    session: Session, wanted: RunFilter, status: JobStatus | None = None, *, limit: int = 50, offset: int = 0
) -> Listed[JobRow]:
    """A page of jobs, the newest first, in two queries however many there are."""
    where = [DagRun.dag_id.startswith(PREFIX, autoescape=True), *wanted.where()]
    count: Select[Any] = select(func.count(DagRun.id))
    if status is not None:
        where.append(_has(status))
        count = count.outerjoin(TaskInstance, _map_task())
    query = _jobs().where(*where).order_by(DagRun.id.desc()).limit(min(limit, MAX_PAGE)).offset(offset)
    items = tuple(map(_job, session.execute(query)))
    return Listed(items, total_of(session, count.where(*where), items, limit, offset))


def job_of(session: Session, name: RunName) -> JobRow | None:
    row = session.execute(_jobs().where(DagRun.dag_id == name.dag_id, DagRun.run_id == name.run_id)).first()
    return _job(row) if row else None


def jobs_of(session: Session, names: Collection[RunName]) -> dict[RunName, JobRow]:
    """Those of the jobs that have a run, in one query."""
    if not names:
        return {}
    wanted = or_(*(and_(DagRun.dag_id == name.dag_id, DagRun.run_id == name.run_id) for name in names))
    return {job.run.name: job for job in map(_job, session.execute(_jobs().where(wanted)))}


def queue_position(session: Session, job: JobRow) -> int | None:
    """How many tasks stand before the job's in the queue of its pool: of a higher priority, or of the same and older.

    None when it does not wait.
    """
    task = job.task
    if task is None or job.status is not JobStatus.QUEUED:
        return None
    waits = or_(
        TaskInstance.state.in_((TaskInstanceState.SCHEDULED, TaskInstanceState.QUEUED)),
        and_(TaskInstance.state.is_(None), DagRun._state == DagRunState.QUEUED.value, TaskInstance.task_id == TASK),
    )
    before = or_(
        TaskInstance.priority_weight > task.priority,
        and_(TaskInstance.priority_weight == task.priority, DagRun.id < job.run.number),
    )
    query = select(func.count(TaskInstance.id)).join(DagRun, same_run())
    return int(session.scalar(query.where(TaskInstance.pool == task.pool, waits, before)) or 0)


def progress_of(session: Session, job: JobRow) -> dict[str, Any]:
    """What the MAP told last of how far it is: ``percent``, ``stage``, ``at``; empty where it tells nothing."""
    if job.task is None:
        return {}
    query = select(TaskStateStoreModel.value).where(
        TaskStateStoreModel.dag_run_id == job.run.number,
        TaskStateStoreModel.task_id == TASK,
        TaskStateStoreModel.map_index == -1,
        TaskStateStoreModel.key == _PROGRESS,
    )
    try:
        told = json.loads(session.scalar(query) or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _has(status: JobStatus) -> ColumnElement[bool]:
    """:func:`airflow_monai.jobs.status.status_of` as the database says it."""
    if status is JobStatus.SUCCEEDED:
        return DagRun._state == DagRunState.SUCCESS.value
    if status is JobStatus.CANCELLED:
        return is_cancelled()
    if status is JobStatus.FAILED:
        return and_(DagRun._state == DagRunState.FAILED.value, func.coalesce(is_cancelled(), False).is_(False))
    waits = or_(TaskInstance.state.is_(None), TaskInstance.state.in_(sorted(filter(None, WAITING_STATES))))
    runs = DagRun._state == DagRunState.RUNNING.value
    if status is JobStatus.RUNNING:
        return and_(runs, TaskInstance.state.is_not(None), ~waits)
    return or_(DagRun._state == DagRunState.QUEUED.value, and_(runs, waits))


def _map_task() -> ColumnElement[bool]:
    return and_(same_run(), TaskInstance.task_id == TASK, TaskInstance.map_index == -1)


def _jobs() -> Select[Any]:
    return select(*RUN_COLUMNS, *TASK_COLUMNS).select_from(DagRun).outerjoin(TaskInstance, _map_task())


def _job(row: Any) -> JobRow:
    ours, of_task = row[: len(RUN_COLUMNS)], row[len(RUN_COLUMNS) :]
    return JobRow(run_from(ours), task_from(of_task) if of_task[0] is not None else None)
