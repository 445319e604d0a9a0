"""What becomes of tasks that run elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from airflow_monai.broker.events.base import Event, Id, Items, NamedOrNumbered
from airflow_monai.types import TaskStatus


class ExecutionStatus(NamedOrNumbered):
    """Status of a task, as :class:`airflow_monai.types.TaskStatus`."""

    CREATED = "Created"
    DISPATCHED = "Dispatched"
    ACCEPTED = "Accepted"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    PARTIAL_FAIL = "PartialFail"
    CANCELED = "Canceled"

    @property
    def status(self) -> TaskStatus:
        return TaskStatus(self.value)


class FailureReason(NamedOrNumbered):
    """Why a task failed."""

    NONE = "None"
    UNKNOWN = "Unknown"
    RUNNER_NOT_SUPPORTED = "RunnerNotSupported"
    INVALID_MESSAGE = "InvalidMessage"
    PLUGIN_ERROR = "PluginError"
    EXTERNAL_SERVICE_ERROR = "ExternalServiceError"
    TIMED_OUT = "TimedOut"
    REJECTED = "Rejected"


class Storage(Event):
    """A folder of a bucket. Credentials that a message holds are never kept."""

    name: Id
    bucket: str = Field(min_length=1, max_length=63)
    relative_root_path: str = Field(max_length=1024)


class _OfATask(Event):
    workflow_instance_id: Id
    task_id: Id
    execution_id: Id


class TaskCallbackEvent(_OfATask):
    """An application, or a person's reviewer, has done its work.

    :param identity: what the task is known by there: a container, an Argo workflow, a callback token.
    """

    correlation_id: Id
    identity: Id
    metadata: dict[str, Any] = Field(default_factory=dict)
    outputs: Items[Storage] = ()


class TaskUpdateEvent(_OfATask):
    """A task has another status."""

    spellings: ClassVar[Mapping[str, str]] = {"taskStats": "task_stats"}

    correlation_id: Id
    status: ExecutionStatus = ExecutionStatus.CREATED
    reason: FailureReason
    message: str = ""
    task_stats: dict[str, Any] = Field(default_factory=dict, serialization_alias="taskStats")
    metadata: dict[str, Any] = Field(default_factory=dict)


class TaskCancellationEvent(_OfATask):
    """A task is to be stopped."""

    identity: Annotated[Id, Field(max_length=63)]
    reason: FailureReason
    message: str = Field(max_length=63)
