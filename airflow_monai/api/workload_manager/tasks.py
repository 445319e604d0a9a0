"""Export tasks, for clients that fetch them: look, take, download, report."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from functools import cache
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from airflow_monai.api.common import audit
from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.downloads import send_object, send_zip
from airflow_monai.api.common.problems import responses
from airflow_monai.api.runs import site_store
from airflow_monai.pulls.tasks import (
    MAX_LEASE_SECONDS,
    NotYours,
    PullState,
    PullTask,
    PullTasks,
    PullTaskUnknown,
    Report,
    Take,
)

router = APIRouter(prefix="/workload-manager/sinks/{sink}/tasks", tags=["Workload Manager: export tasks"])
MAX_TASKS = 100
SinkName = Annotated[str, Path(max_length=100, examples=["OUTSIDE"])]
TaskId = Annotated[str, Path(max_length=64, examples=["6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"])]


class ExportStatus(str, Enum):
    SUCCESS = "Success"
    FAILURE = "Failure"
    PARTIAL = "PartialFailure"
    UNKNOWN = "Unknown"


class FileStatus(str, Enum):
    SUCCESS = "Success"
    CONFIGURATION_ERROR = "ConfigurationError"
    UNSUPPORTED_DATA_TYPE = "UnsupportedDataType"
    SERVICE_ERROR = "ServiceError"
    DOWNLOAD_ERROR = "DownloadError"
    UNKNOWN = "Unknown"


class ExportFile(BaseModel):
    """A file to export."""

    path: str = Field(description="Names it in the report.")
    number: int = Field(description="Names it in its address.", examples=[0])
    name: str = Field(examples=["1.dcm"])
    size: int = Field(description="Bytes.", examples=[526336])
    sop_instance_uid: str = Field("", examples=["1.2.826.0.1.3680043.2.1"])


class ExportTask(BaseModel):
    """Files that are to be exported together."""

    export_task_id: str = Field(examples=["6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"])
    sink: str = Field(examples=["OUTSIDE"])
    state: PullState
    workflow_instance_id: str
    payload_id: str
    correlation_id: str
    destinations: list[str] = Field(examples=[["PACS2"]])
    files: list[ExportFile]
    created: str
    taken_by: str | None = None
    taken_until: datetime | None = None


class TakenTask(ExportTask):
    """A task that the caller has now."""

    lease: str = Field(description="A secret: who knows it can report.")


class TakeTasks(BaseModel):
    """How many tasks to take, and for how long."""

    count: int = Field(1, ge=1, le=MAX_TASKS)
    lease_seconds: float = Field(300, ge=1, le=MAX_LEASE_SECONDS, description="After it, others may take the task.")
    client: str = Field("", max_length=100, description="Default: who calls.", examples=["gateway-2"])


class Lease(BaseModel):
    """The lease of a task that the caller has."""

    lease: str = Field(max_length=200, examples=["Yq3f0o1T..."])
    lease_seconds: float = Field(300, ge=1, le=MAX_LEASE_SECONDS, description="From now.")


class TaskReport(BaseModel):
    """What became of a task."""

    lease: str = Field(max_length=200, examples=["Yq3f0o1T..."])
    status: ExportStatus = Field(examples=["Success"])
    file_statuses: dict[str, FileStatus] = Field({}, description="Path of a file -> what became of it.")
    message: str = Field("", max_length=2000)


class Renewed(BaseModel):
    taken_until: datetime


@router.get("", summary="List the open export tasks", operation_id="list_export_tasks", responses=responses(400))
def list_tasks(
    sink: SinkName,
    caller: TheCaller,
    limit: Annotated[int, Query(ge=1, le=MAX_TASKS)] = MAX_TASKS,
) -> list[ExportTask]:
    """Those that nobody has reported on, taken or not, the oldest first. Looking takes nothing."""
    tasks = PullTasks(site_store(), sink)
    rights = cache(lambda dag_id: caller.may(Right.READ_DATA, dag_id))
    mine = (task for task in tasks.open_ones() if rights(task.dag_id))
    shown = [_shown(tasks, task) for task in islice(mine, limit)]
    _note_read(caller, "monai.export.list", sink, len(shown))
    return shown


@router.post("/take", summary="Take export tasks", operation_id="take_export_tasks", responses=responses(400))
def take_tasks(sink: SinkName, wanted: TakeTasks, caller: TheCaller) -> list[TakenTask]:
    """Take the oldest tasks that nobody has. None: there are none now."""
    caller.check(Right.READ_DATA)
    caller.check(Right.CHANGE_TASKS)
    tasks = PullTasks(site_store(), sink)
    taken = tasks.take(wanted.client or caller.name, wanted.count, wanted.lease_seconds)
    for task, _ in taken:
        _note(caller, "monai.export.take", task)
    return [_taken(tasks, task, take) for task, take in taken]


@router.get("/{task_id}", summary="Describe an export task", operation_id="get_export_task", responses=responses(404))
def get_task(sink: SinkName, task_id: TaskId, caller: TheCaller) -> ExportTask:
    """One task, and who has it."""
    tasks, task = _found(sink, task_id, caller, Right.READ_DATA)
    _note(caller, "monai.export.read", task)
    return _shown(tasks, task)


@router.put(
    "/{task_id}",
    summary="Report on an export task",
    operation_id="report_export_task",
    status_code=204,
    responses=responses(400, 404, 409),
)
def report_task(sink: SinkName, task_id: TaskId, report: TaskReport, caller: TheCaller) -> None:
    """Say what became of it. The first report counts; the same one sent again does no harm.

    409 when another client has taken the task.
    """
    tasks, task = _found(sink, task_id, caller, Right.CHANGE_TASKS)
    files = {path: status.value for path, status in report.file_statuses.items()}
    try:
        tasks.report(task, report.lease, Report(report.status.value, files, report.message))
    except NotYours as error:
        raise HTTPException(409, str(error)) from None
    _note(caller, "monai.export.report", task)


@router.post(
    "/{task_id}/renew",
    summary="Keep an export task for longer",
    operation_id="renew_export_task",
    responses=responses(400, 404, 409),
)
def renew_task(sink: SinkName, task_id: TaskId, lease: Lease, caller: TheCaller) -> Renewed:
    """A client that needs longer than its lease says so before it is over."""
    tasks, task = _found(sink, task_id, caller, Right.CHANGE_TASKS)
    try:
        take = tasks.renew(task, lease.lease, lease.lease_seconds)
    except NotYours as error:
        raise HTTPException(409, str(error)) from None
    _note(caller, "monai.export.renew", task)
    return Renewed(taken_until=take.until)


@router.post(
    "/{task_id}/return",
    summary="Give an export task back",
    operation_id="return_export_task",
    status_code=204,
    responses=responses(400, 404, 409),
)
def return_task(sink: SinkName, task_id: TaskId, lease: Lease, caller: TheCaller) -> None:
    """Let another client take it at once."""
    tasks, task = _found(sink, task_id, caller, Right.CHANGE_TASKS)
    try:
        tasks.give_back(task, lease.lease)
    except NotYours as error:
        raise HTTPException(409, str(error)) from None
    _note(caller, "monai.export.return", task)


@router.get(
    "/{task_id}/files/{number}",
    summary="Download a file of an export task",
    operation_id="get_export_file",
    response_class=Response,
    responses=responses(400, 404, 410),
)
def get_file(sink: SinkName, task_id: TaskId, number: int, caller: TheCaller) -> Response:
    """The file's bytes."""
    _, task = _found(sink, task_id, caller, Right.READ_DATA)
    if not 0 <= number < len(task.files):
        raise HTTPException(404, "The export task has no such file.")
    file, store = task.files[number], site_store()
    _note(caller, "monai.export.download", task)
    if not store.exists(file.path):
        raise HTTPException(410, "The file is not in the store any more.")
    return send_object(store, file.path, media_type="application/octet-stream", filename=file.name)


@router.get(
    "/{task_id}/files",
    summary="Download the files of an export task",
    operation_id="get_export_files",
    response_class=Response,
    responses=responses(404),
)
def get_files(sink: SinkName, task_id: TaskId, caller: TheCaller) -> Response:
    """All of them in one zip archive, named by their numbers."""
    _, task = _found(sink, task_id, caller, Right.READ_DATA)
    store = site_store()
    _note(caller, "monai.export.download", task)
    entries = [(f"{number}-{file.name}", store, file.path) for number, file in enumerate(task.files)]
    return send_zip(entries, f"{task.task_id}.zip")


def _found(sink: str, task_id: str, caller: Caller, right: Right) -> tuple[PullTasks, PullTask]:
    tasks = PullTasks(site_store(), sink)
    try:
        task = tasks.task(task_id)
    except PullTaskUnknown:
        if not caller.may(right):
            caller.check(right)
        raise HTTPException(404, "The sink has no such export task.") from None
    caller.check(right, task.dag_id)
    return tasks, task


def _shown(tasks: PullTasks, task: PullTask) -> ExportTask:
    take = tasks.holder(task)
    return ExportTask(
        **_fields(task),
        state=tasks.state(task),
        taken_by=take.client if take else None,
        taken_until=take.until if take else None,
    )


def _taken(tasks: PullTasks, task: PullTask, take: Take) -> TakenTask:
    return TakenTask(
        **_fields(task), state=PullState.TAKEN, taken_by=take.client, taken_until=take.until, lease=take.lease
    )


def _fields(task: PullTask) -> dict:
    return {
        "export_task_id": task.task_id,
        "sink": task.sink,
        "workflow_instance_id": task.workflow_instance_id,
        "payload_id": task.payload_id,
        "correlation_id": task.correlation_id,
        "destinations": list(task.destinations),
        "files": [
            ExportFile(
                path=file.path, number=number, name=file.name, size=file.size, sop_instance_uid=file.sop_instance_uid
            )
            for number, file in enumerate(task.files)
        ],
        "created": task.created,
    }


def _note(caller: Caller, event: str, task: PullTask) -> None:
    extra = {"sink": task.sink, "export_task": task.task_id, "payload": task.payload_id}
    audit.note(caller, event, dag_id=task.dag_id, run_id=task.run_id, extra=extra)


def _note_read(caller: Caller, event: str, sink: str, count: int) -> None:
    audit.note(caller, event, extra={"sink": sink, "tasks": count})
