"""How Airflow's states are called here. docs/workflow-manager.md has the same as a table."""

from __future__ import annotations

from enum import Enum

from airflow_monai.specs.plan import TaskType
from airflow_monai.types import FailureKind, TaskRecord, TaskStatus

OPERATORS = {
    "MapOperator": TaskType.MAP,
    "ContainerOperator": TaskType.DOCKER,
    "ExportOperator": TaskType.EXPORT,
    "Hl7ExportOperator": TaskType.EXPORT_HL7,
    "RouterOperator": TaskType.ROUTER,
    "RecordedRouterOperator": TaskType.ROUTER,
    "HttpRequestOperator": TaskType.HTTP,
    "HttpJobOperator": TaskType.HTTP_ASYNC,
    "ArgoOperator": TaskType.ARGO,
    "EmailOperator": TaskType.EMAIL,
    "ClinicalReviewOperator": TaskType.CLINICAL_REVIEW,
    "RemoteAppOperator": TaskType.REMOTE_APP_EXECUTION,
}
"""Class of an operator, as Airflow's table names it -> type of the spec's task. All other tasks of a DAG are nodes of
edges and joins, which a workflow does not know."""

WITHOUT_RECORD = frozenset({"RouterOperator"})
"""Operators that leave nothing in the store."""


class InstanceStatus(str, Enum):
    CREATED = "Created"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"


class FailureReason(str, Enum):
    """Why a task failed, as task update messages name it."""

    NONE = "None"
    UNKNOWN = "Unknown"
    RUNNER_NOT_SUPPORTED = "RunnerNotSupported"
    INVALID_MESSAGE = "InvalidMessage"
    PLUGIN_ERROR = "PluginError"
    EXTERNAL_SERVICE_ERROR = "ExternalServiceError"
    TIMED_OUT = "TimedOut"
    REJECTED = "Rejected"


INSTANCE_STATES = {
    "queued": InstanceStatus.CREATED,
    "running": InstanceStatus.CREATED,
    "success": InstanceStatus.SUCCEEDED,
    "failed": InstanceStatus.FAILED,
}
TASK_STATES = {
    "scheduled": TaskStatus.CREATED,
    "queued": TaskStatus.DISPATCHED,
    "up_for_retry": TaskStatus.DISPATCHED,
    "restarting": TaskStatus.DISPATCHED,
    "running": TaskStatus.ACCEPTED,
    "deferred": TaskStatus.ACCEPTED,
    "up_for_reschedule": TaskStatus.ACCEPTED,
    "awaiting_input": TaskStatus.ACCEPTED,
    "success": TaskStatus.SUCCEEDED,
    "failed": TaskStatus.FAILED,
}
"""Tasks in other states were not reached: the way to them was not taken, or not yet."""
UNFINISHED = frozenset(
    state for state, status in TASK_STATES.items() if status not in (TaskStatus.SUCCEEDED, TaskStatus.FAILED)
)
REASONS = {
    FailureKind.CONNECTION: FailureReason.EXTERNAL_SERVICE_ERROR,
    FailureKind.INTERRUPTED: FailureReason.EXTERNAL_SERVICE_ERROR,
    FailureKind.EXIT_CODE: FailureReason.PLUGIN_ERROR,
    FailureKind.OUT_OF_MEMORY: FailureReason.PLUGIN_ERROR,
    FailureKind.TIMEOUT: FailureReason.TIMED_OUT,
    FailureKind.MISSING_OUTPUT: FailureReason.PLUGIN_ERROR,
    FailureKind.REFUSED: FailureReason.REJECTED,
    FailureKind.NOT_FOUND: FailureReason.INVALID_MESSAGE,
    FailureKind.NO_CARD: FailureReason.TIMED_OUT,
    FailureKind.NOT_STARTED: FailureReason.TIMED_OUT,
    FailureKind.POLICY: FailureReason.REJECTED,
    FailureKind.INVALID: FailureReason.INVALID_MESSAGE,
    FailureKind.INTERNAL: FailureReason.UNKNOWN,
}


def states_of(status: InstanceStatus) -> frozenset[str]:
    """Airflow's states of runs that are called so."""
    return frozenset(state for state, name in INSTANCE_STATES.items() if name is status)


def task_status(state: str, record: TaskRecord | None, *, is_canceled: bool) -> TaskStatus:
    """
    :param record: the task's, of its present generation.
    :param is_canceled: somebody wanted it to be canceled.
    """
    status = TASK_STATES.get(state, TaskStatus.CREATED)
    if status is TaskStatus.FAILED and is_canceled:
        return TaskStatus.CANCELED
    if status is TaskStatus.SUCCEEDED and record and record.status is TaskStatus.PARTIAL_FAIL:
        return TaskStatus.PARTIAL_FAIL
    return status


def reason_of(status: TaskStatus, record: TaskRecord | None) -> FailureReason:
    if status is not TaskStatus.FAILED:
        return FailureReason.NONE
    kind = record.stats.get("error_kind") if record else None
    try:
        return REASONS[FailureKind(kind)]
    except (ValueError, KeyError):
        return FailureReason.UNKNOWN
