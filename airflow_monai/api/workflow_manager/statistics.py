"""How many tasks ran, how they ended and how long they took, counted by the database."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel
from sqlalchemy import ColumnElement, case, cast, func, select
from sqlalchemy.orm import Session
from sqlalchemy.types import Date

from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.problems import responses
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.api.workflow_manager.executions import workflows_of
from airflow_monai.api.workflow_manager.paging import Page, ThePaging
from airflow_monai.api.workflow_manager.rows import visible_workflows
from airflow_monai.api.workflow_manager.statuses import OPERATORS, TASK_STATES, UNFINISHED
from airflow_monai.api.workflow_manager.tasks import period
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.types import TaskStatus

MAX_DAYS = 366
router = APIRouter(prefix=f"{PREFIX}/tasks", tags=["Workflow Manager: tasks"])

Moment = Annotated[datetime | None, Query(description="ISO 8601; without an offset it is UTC.")]
WorkflowId = Annotated[str, Query(alias="workflowId", max_length=250, description="Its id, or that of its DAG.")]
TaskId = Annotated[str, Query(alias="taskId", max_length=250)]


class Overview(BaseModel):
    """Times are seconds, of tasks that have ended."""

    PeriodStart: datetime
    PeriodEnd: datetime
    TotalExecutions: int
    TotalSucceeded: int
    TotalFailures: int
    TotalInprogress: int
    AverageTotalExecutionSeconds: float
    AverageArgoExecutionSeconds: float


class Execution(BaseModel):
    """One task that ran."""

    WorkflowInstanceId: str
    WorkflowId: str
    TaskId: str
    MapIndex: int
    TaskType: str
    Status: TaskStatus
    StartedAt: datetime | None
    FinishedAt: datetime | None
    ExecutionDurationSeconds: float | None


class StatsPage(Page[Execution]):
    """A page of tasks, and what all of them together come to."""

    PeriodStart: datetime
    PeriodEnd: datetime
    TotalExecutions: int
    TotalSucceeded: int
    TotalFailures: int
    TotalInprogress: int
    AverageTotalExecutionSeconds: float
    AverageArgoExecutionSeconds: float


class Day(BaseModel):
    Date: date
    TotalExecutions: int
    TotalSucceeded: int
    TotalFailures: int
    TotalInprogress: int


@router.get("/stats", responses=responses(400))
def task_stats(
    caller: TheCaller,
    paging: ThePaging,
    start: Annotated[Moment, Query(alias="startTime")] = None,
    end: Annotated[Moment, Query(alias="endTime")] = None,
    workflow_id: WorkflowId = "",
    task_id: TaskId = "",
) -> StatsPage:
    """The tasks that began within a time, the newest first, a page at a time."""
    begin, until = period(start, end)
    with create_session() as session:
        dag_ids = _asked_dags(caller, session, workflow_id)
        where = _where(dag_ids, begin, until, task_id)
        told = _overview(session, where, begin, until)
        query = select(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.operator,
            TaskInstance.state,
            TaskInstance.start_date,
            TaskInstance.end_date,
        ).where(*where)
        query = query.order_by(TaskInstance.start_date.desc(), TaskInstance.id)
        rows = session.execute(query.limit(paging.size).offset(paging.offset)).all()
    workflows = workflows_of({row[0] for row in rows})
    page = paging.page([_execution(row, workflows[row[0]].id) for row in rows], told.TotalExecutions)
    return StatsPage(**dict(page), **dict(told))


@router.get("/statsoverview", responses=responses(400))
def task_stats_overview(
    caller: TheCaller,
    start: Annotated[Moment, Query(alias="startTime")] = None,
    end: Annotated[Moment, Query(alias="endTime")] = None,
    workflow_id: WorkflowId = "",
    task_id: TaskId = "",
) -> Overview:
    """What the tasks that began within a time come to."""
    begin, until = period(start, end)
    with create_session() as session:
        where = _where(_asked_dags(caller, session, workflow_id), begin, until, task_id)
        return _overview(session, where, begin, until)


@router.get("/dailystats", responses=responses(400))
def task_stats_of_days(
    caller: TheCaller,
    start: Annotated[Moment, Query(alias="startTime")] = None,
    end: Annotated[Moment, Query(alias="endTime")] = None,
    workflow_id: WorkflowId = "",
    task_id: TaskId = "",
) -> list[Day]:
    """The same for each day (UTC) on which a task began, the newest first; at most a year of them."""
    begin, until = period(start, end)
    day = cast(func.timezone("UTC", TaskInstance.start_date), Date)
    with create_session() as session:
        where = _where(_asked_dags(caller, session, workflow_id), begin, until, task_id)
        query = select(day, func.count(), *_counts()).where(*where).group_by(day).order_by(day.desc())
        rows = session.execute(query.limit(MAX_DAYS)).all()
    return [
        Day(Date=when, TotalExecutions=total, TotalSucceeded=good, TotalFailures=bad, TotalInprogress=still)
        for when, total, good, bad, still in rows
    ]


def _asked_dags(caller: Caller, session: Session, workflow_id: str) -> set[str]:
    """:raises HTTPException: 400 for a workflow that the caller may not know of."""
    dag_ids = visible_workflows(caller, Right.SEE_TASKS, session)
    if not workflow_id:
        return dag_ids
    if workflow_id in dag_ids:
        return {workflow_id}
    found = {dag_id for dag_id, one in workflows_of(dag_ids).items() if one.id == workflow_id.strip().lower()}
    if not found:
        raise HTTPException(400, "There is no such workflow.")
    return found


def _where(dag_ids: set[str], begin: datetime, until: datetime, task_id: str) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        TaskInstance.dag_id.in_(sorted(dag_ids)),
        TaskInstance.operator.in_(sorted(OPERATORS)),
        TaskInstance.state.in_(sorted(TASK_STATES)),
        TaskInstance.start_date >= begin,
        TaskInstance.start_date < until,
    ]
    return [*found, TaskInstance.task_id == task_id] if task_id else found


def _counts() -> list[Any]:
    def how_many(states: list[str]) -> Any:
        return func.coalesce(func.sum(case((TaskInstance.state.in_(states), 1), else_=0)), 0)

    return [how_many(["success"]), how_many(["failed"]), how_many(sorted(UNFINISHED))]


def _overview(session: Session, where: list[ColumnElement[bool]], begin: datetime, until: datetime) -> Overview:
    seconds = func.extract("epoch", TaskInstance.end_date - TaskInstance.start_date)
    ended = TaskInstance.state.in_(["success", "failed"])
    average = func.avg(case((ended, seconds)))
    argo = func.avg(case((ended & (TaskInstance.operator == "ArgoOperator"), seconds)))
    total, good, bad, still, mean, mean_argo = session.execute(
        select(func.count(), *_counts(), average, argo).where(*where)
    ).one()
    return Overview(
        PeriodStart=begin,
        PeriodEnd=until,
        TotalExecutions=total,
        TotalSucceeded=good,
        TotalFailures=bad,
        TotalInprogress=still,
        AverageTotalExecutionSeconds=round(float(mean or 0), 3),
        AverageArgoExecutionSeconds=round(float(mean_argo or 0), 3),
    )


def _execution(row: Any, workflow_id: str) -> Execution:
    dag_id, run_id, task_id, map_index, operator, state, started, ended = row
    has_ended = str(state) in ("success", "failed")
    return Execution(
        WorkflowInstanceId=instance_id_of(dag_id, run_id),
        WorkflowId=workflow_id,
        TaskId=task_id,
        MapIndex=map_index,
        TaskType=OPERATORS[operator].value,
        Status=TASK_STATES[str(state)],
        StartedAt=started,
        FinishedAt=ended if has_ended else None,
        ExecutionDurationSeconds=round((ended - started).total_seconds(), 3)
        if has_ended and ended and started
        else None,
    )
