"""Tasks: those that run, those of a time, one, and ending one by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.moments import utc
from airflow_monai.api.common.problems import responses
from airflow_monai.api.instances.runs import Run, RunFilter, Task, TaskFilter, list_tasks, run_of, runs_of, tasks_of
from airflow_monai.api.runs import site_store
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.api.workflow_manager.ending import HasEnded, end_task
from airflow_monai.api.workflow_manager.executions import Teller, execution_id_of, facts_of, folder_of, is_reached
from airflow_monai.api.workflow_manager.models import TaskExecution
from airflow_monai.api.workflow_manager.paging import Page, ThePaging
from airflow_monai.api.workflow_manager.rows import execution_ids, our_dags, task_row, the_run, visible_workflows
from airflow_monai.api.workflow_manager.statuses import OPERATORS, TASK_STATES, UNFINISHED
from airflow_monai.store.base import Store

MAX_LIST = 100
_MAX_BODY = 4096

router = APIRouter(prefix=f"{PREFIX}/tasks", tags=["Workflow Manager: tasks"])


class End(str, Enum):
    """How a task may be ended by hand."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"


class TaskEnd(BaseModel):
    """How a task shall end."""

    model_config = ConfigDict(extra="forbid")
    status: End = Field(examples=[End.CANCELED])


@dataclass(frozen=True, slots=True)
class TaskIds:
    instance: UUID
    task: str
    execution: UUID | None


Moment = Annotated[datetime | None, Query(description="ISO 8601; without an offset it is UTC.")]


async def _asked_ids(
    request: Request,
    workflow_instance_id: Annotated[UUID | None, Query(alias="workflowInstanceId")] = None,
    task_id: Annotated[str | None, Query(alias="taskId", max_length=250)] = None,
    execution_id: Annotated[UUID | None, Query(alias="executionId")] = None,
) -> TaskIds | None:
    """Which task a query or a body (which some clients send with GET) asks for; None for a list."""
    given: dict[str, Any] = {
        "workflowInstanceId": workflow_instance_id,
        "taskId": task_id,
        "executionId": execution_id,
    }
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise HTTPException(400, "The body of this request is larger than three ids.")
    if body.strip():
        given |= {key: value for key, value in _object(body).items() if key in given and value not in (None, "")}
    if not any(given.values()):
        return None
    if not given["workflowInstanceId"] or not given["taskId"]:
        raise HTTPException(400, "A task is asked for by workflowInstanceId and taskId, and by executionId.")
    try:
        instance = UUID(str(given["workflowInstanceId"]))
        execution = UUID(str(given["executionId"])) if given["executionId"] else None
    except ValueError:
        raise HTTPException(400, "workflowInstanceId and executionId have to be UUIDs.") from None
    return TaskIds(instance, str(given["taskId"])[:250], execution)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HTTPException(400, "The body of this request has to be a JSON object of three ids.")
    return found


@router.get("", responses=responses(400, 404))
def find_tasks(
    caller: TheCaller,
    paging: ThePaging,
    asked: Annotated[TaskIds | None, Depends(_asked_ids)],
    start: Annotated[Moment, Query(alias="startTime")] = None,
    end: Annotated[Moment, Query(alias="endTime")] = None,
) -> Page[TaskExecution] | list[TaskExecution] | TaskExecution:
    """One task by its ids, in the query or in the body; else those that ran between two times, those of the newest
    instances first: a page, where one is asked for, or a list of at most 100.
    """
    if asked is not None:
        return _one(caller, asked)
    begin, until = period(start, end)
    wanted = TaskFilter(states=frozenset(TASK_STATES), operators=OPERATORS, since=begin, until=until)
    return _listed(caller, wanted, paging, is_list=not paging.is_asked)


@router.get("/running", responses=responses(400))
def running_tasks(caller: TheCaller, paging: ThePaging) -> Page[TaskExecution]:
    """The tasks that have begun, or wait for a place, and have not ended."""
    page = _listed(caller, TaskFilter(states=UNFINISHED, operators=OPERATORS), paging, is_list=False)
    assert isinstance(page, Page)
    return page


@router.get("/{execution_id}", responses=responses(400, 404))
def one_task(caller: TheCaller, execution_id: UUID) -> TaskExecution:
    """The task with this execution id; one that was cleared since has another."""
    store = site_store()
    with create_session() as session:
        run, task = _of_execution(caller, execution_id, store, session)
    return _told(caller, store, run, task)


@router.put("/{execution_id}", responses=responses(400, 404, 409))
def end_one_task(caller: TheCaller, execution_id: UUID, wanted: TaskEnd) -> TaskExecution:
    """End a task that has not ended, as marking it in Airflow does: what it runs is stopped, and what comes after it
    goes on, or does not. One that was canceled has failed for Airflow and for the tasks behind it.
    """
    store = site_store()
    with create_session() as session:
        run, task = _of_execution(caller, execution_id, store, session)
    caller.check(Right.CHANGE_TASKS, run.dag_id)
    try:
        end_task(store, run, task, success=wanted.status is End.SUCCEEDED, canceled_by=_canceler(caller, wanted))
    except HasEnded:
        raise HTTPException(409, "The task has ended already.") from None
    note(
        caller,
        f"monai.task.{wanted.status.value.lower()}",
        dag_id=run.dag_id,
        run_id=run.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        extra={"execution": str(execution_id)},
    )
    with create_session() as session:
        now = task_row(session, run.name, task.task_id, task.map_index)
    return _told(caller, store, run, now or task)


def _canceler(caller: Caller, wanted: TaskEnd) -> str:
    return caller.name if wanted.status is End.CANCELED else ""


def period(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """The time that a request asks for; all of it by default."""
    begin = utc(start) if start else datetime(2023, 1, 1, tzinfo=timezone.utc)
    until = utc(end) if end else datetime.now(timezone.utc)
    if start and end and begin > until:
        raise HTTPException(400, "startTime comes after endTime.")
    return begin, until


def _listed(
    caller: Caller, wanted: TaskFilter, paging: ThePaging, *, is_list: bool
) -> Page[TaskExecution] | list[TaskExecution]:
    paging = paging.at_most(MAX_LIST)
    with create_session() as session:
        dag_ids = visible_workflows(caller, Right.SEE_TASKS, session)
        limit, offset = (MAX_LIST, 0) if is_list else (paging.size, paging.offset)
        found = list_tasks(session, replace(wanted, runs=RunFilter(dag_ids=dag_ids)), limit=limit, offset=offset)
        runs = runs_of(session, [task.run for task in found.items])
    told = Teller(site_store(), caller).tasks(found.items, runs)
    return told if is_list else paging.page(told, found.total)


def _one(caller: Caller, asked: TaskIds) -> TaskExecution:
    store = site_store()
    with create_session() as session:
        run = the_run(caller, Right.SEE_TASKS, str(asked.instance), session)
        tasks = [task for task in tasks_of(session, [run.name])[run.name] if task.task_id == asked.task]
    told = Teller(store, caller).tasks([task for task in tasks if is_reached(task)], {run.name: run})
    fitting = [task for task in told if asked.execution in (None, UUID(task.execution_id))]
    if len(fitting) != 1:
        more = " It runs for each series: say executionId." if len(fitting) > 1 else ""
        raise HTTPException(404 if not fitting else 400, f"There is no one task like that.{more}")
    return fitting[0]


def _of_execution(caller: Caller, execution_id: UUID, store: Store, session: Session) -> tuple[Run, Task]:
    """:raises HTTPException: 404 where there is none that the caller may know of."""
    place = execution_ids.find(str(execution_id), store, session)
    run = run_of(session, place[0]) if place else None
    if place is not None and run is not None and caller.may(Right.SEE_TASKS, run.dag_id):
        task = task_row(session, run.name, place[1], place[2])
        if task is not None and is_reached(task) and run.dag_id in our_dags(session):
            folder = folder_of(store, run)
            if execution_id_of(folder, task, facts_of(folder, task).generation) == str(execution_id):
                return run, task
    raise HTTPException(404, "There is no such task execution, or the task was cleared since.")


def _told(caller: Caller, store: Store, run: Run, task: Task) -> TaskExecution:
    return Teller(store, caller).tasks([task], {run.name: run})[0]
