"""Topics: names of queues, and the event that each carries."""

from __future__ import annotations

from airflow_monai.broker.events.base import Event
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
EXTERNAL_APP_REQUEST = "md.externalapp.request"

REQUESTS = (WORKFLOW_REQUEST, WORKFLOW_REQUEST_DRAFT)
ANSWERS = (TASK_CALLBACK, WORKFLOW_TASK_CALLBACK, EXPORT_COMPLETE, ARTIFACTS_RECEIVED)

EVENTS: dict[str, type[Event]] = {
    WORKFLOW_REQUEST: WorkflowRequestEvent,
    WORKFLOW_REQUEST_DRAFT: WorkflowRequestDraft,
    ARTIFACTS_RECEIVED: ArtifactsReceivedEvent,
    TASK_CALLBACK: TaskCallbackEvent,
    WORKFLOW_TASK_CALLBACK: TaskCallbackEvent,
    EXPORT_COMPLETE: ExportCompleteEvent,
}
"""Topic -> event that its messages carry, for those that are consumed here."""
