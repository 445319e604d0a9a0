"""Events of the first draft of the messages, under its topics: ids, numbered status and state, dates.

The draft leaves open what its numbers mean; :class:`Status` and :class:`State` say it for those that we publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from airflow_monai.broker.events.base import Event, Id, Items
from airflow_monai.broker.events.exports import ExportStatus
from airflow_monai.broker.events.requests import Path


class Status(IntEnum):
    """What has come of a workflow or task so far; numbered as the published statuses of tasks."""

    CREATED = 0
    DISPATCHED = 1
    ACCEPTED = 2
    SUCCEEDED = 3
    FAILED = 4
    PARTIAL_FAIL = 5
    CANCELED = 6


class State(IntEnum):
    """Where in its life a workflow or task is."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2


class _Draft(Event):
    """
    :param transaction_id: locates the workflow: its instance.
    :param correlation_id: traces back to the request.
    """

    transaction_id: Id
    correlation_id: Id


class _Started(_Draft):
    status: Status
    state: State
    date_started: datetime


class WorkflowStarted(_Started):
    """A workflow has started."""

    spellings: ClassVar[Mapping[str, str]] = {"DateStarted": "date_started"}


class WorkflowCompleted(_Started):
    """A workflow has ended, well or not."""

    date_completed: datetime


class TaskStarted(_Started):
    """A task has started.

    :param payload_path: of the payload that it works on, in the store.
    """

    payload_path: Path
    task_id: Id
    execution_id: Id


class TaskCompleted(TaskStarted):
    """A task has ended, well or not."""

    date_completed: datetime


class TaskRequest(_Draft):
    """A task is to be run. Known for its schema; here tasks are run by Airflow, so it is neither sent nor taken."""

    payload_path: Path


class ExportTaskRequest(_Draft):
    """An export is to be made. Known for its schema, and not sent: exports are asked for as the shipped systems do."""

    export_task_id: Id
    files: Items[Path] = Field(min_length=1)
    sink: Id


_EXPORT_STATUS = {
    "enum": [*range(len(ExportStatus)), *(status.value for status in ExportStatus)],
    "description": ", ".join(f"{status.number}: {status.value}" for status in ExportStatus),
}


def _export_status(value: object) -> object:
    return ExportStatus(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else value


class ExportTaskCompleted(_Draft):
    """What became of an export.

    :param transaction_id: the workflow instance, as the request named it.
    :param status: a number (or a name) of :class:`ExportStatus`.
    """

    export_task_id: Id
    status: Annotated[ExportStatus, BeforeValidator(_export_status), WithJsonSchema(_EXPORT_STATUS)]
    message: str = ""
    sink: str = ""
