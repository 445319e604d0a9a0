"""Topics: names of queues, and the event that each carries."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_monai.broker.events.base import Event
from airflow_monai.broker.events.draft import (
    ExportTaskCompleted,
    ExportTaskRequest,
    TaskCompleted,
    TaskRequest,
    TaskStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from airflow_monai.broker.events.exports import ExportCompleteEvent
from airflow_monai.broker.events.requests import ArtifactsReceivedEvent, WorkflowRequestDraft, WorkflowRequestEvent
from airflow_monai.broker.events.tasks import TaskCallbackEvent

WORKFLOW_REQUEST = "md.workflow.request"
WORKFLOW_REQUEST_DRAFT = "workflow.request"
ARTIFACTS_RECEIVED = "md.workflow.artifactrecieved"  # as published
TASK_CALLBACK = "md.tasks.callback"
WORKFLOW_TASK_CALLBACK = "md.workflow.task_callback"
EXPORT_REQUEST = "md.export.request"
EXPORT_COMPLETE = "md.export.complete"
EXPORT_COMPLETED_DRAFT = "export.completed"
EXTERNAL_APP_REQUEST = "md.externalapp.request"
TASK_UPDATE = "md.tasks.update"
TASK_DISPATCH = "md.tasks.dispatch"
WORKFLOW_TASK_DISPATCH = "md.workflow.task_dispatch"
WORKFLOW_STARTED = "workflow.started"
WORKFLOW_COMPLETED = "workflow.completed"
TASK_STARTED = "task.started"
TASK_COMPLETED = "task.completed"

REQUESTS = (WORKFLOW_REQUEST, WORKFLOW_REQUEST_DRAFT)
ANSWERS = (TASK_CALLBACK, WORKFLOW_TASK_CALLBACK, EXPORT_COMPLETE, EXPORT_COMPLETED_DRAFT, ARTIFACTS_RECEIVED)

EVENTS: dict[str, type[Event]] = {
    WORKFLOW_REQUEST: WorkflowRequestEvent,
    WORKFLOW_REQUEST_DRAFT: WorkflowRequestDraft,
    ARTIFACTS_RECEIVED: ArtifactsReceivedEvent,
    TASK_CALLBACK: TaskCallbackEvent,
    WORKFLOW_TASK_CALLBACK: TaskCallbackEvent,
    EXPORT_COMPLETE: ExportCompleteEvent,
    EXPORT_COMPLETED_DRAFT: ExportTaskCompleted,
}
"""Topic -> event that its messages carry, for those that are consumed here."""

DRAFT: dict[str, type[Event]] = {
    WORKFLOW_REQUEST_DRAFT: WorkflowRequestDraft,
    EXPORT_COMPLETED_DRAFT: ExportTaskCompleted,
    "export.request": ExportTaskRequest,
    "task.request": TaskRequest,
    WORKFLOW_STARTED: WorkflowStarted,
    WORKFLOW_COMPLETED: WorkflowCompleted,
    TASK_STARTED: TaskStarted,
    TASK_COMPLETED: TaskCompleted,
}
"""Topics of the first draft -> event; each has its JSON Schema beside this file."""


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of a topic, as the Workflow Manager's specification has it.

    :param direction: ``taken``, ``sent``, or ``none``: neither.
    """

    name: str
    topic: str
    direction: str


ALIASES = (
    Alias(WORKFLOW_REQUEST, WORKFLOW_REQUEST, "taken"),
    Alias(WORKFLOW_TASK_DISPATCH, TASK_DISPATCH, "none"),
    Alias(WORKFLOW_TASK_CALLBACK, TASK_CALLBACK, "taken"),
    Alias(EXPORT_COMPLETE, EXPORT_COMPLETE, "taken"),
)
"""The queues that the specification names. It has the Workflow Executer publish ``md.export.complete`` for the gateway;
as shipped, and here, it is the gateway that says by it that an export is complete."""
