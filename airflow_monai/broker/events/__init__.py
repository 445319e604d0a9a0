"""The published events, by topic: what a message's JSON means, checked as its publisher's own receivers check it."""

from __future__ import annotations

from airflow_monai.broker.events.base import Event, read_event
from airflow_monai.broker.events.draft import ExportTaskCompleted
from airflow_monai.broker.events.exports import (
    ExportCompleteEvent,
    ExportRequestEvent,
    ExportStatus,
    ExternalAppRequestEvent,
    FileExportStatus,
)
from airflow_monai.broker.events.requests import (
    ArtifactsReceivedEvent,
    DataOrigin,
    DataService,
    WorkflowRequestDraft,
    WorkflowRequestEvent,
)
from airflow_monai.broker.events.tasks import (
    FailureReason,
    Storage,
    TaskCallbackEvent,
    TaskCancellationEvent,
    TaskUpdateEvent,
)

__all__ = [
    "ArtifactsReceivedEvent",
    "DataOrigin",
    "DataService",
    "Event",
    "ExportCompleteEvent",
    "ExportRequestEvent",
    "ExportStatus",
    "ExportTaskCompleted",
    "ExternalAppRequestEvent",
    "FailureReason",
    "FileExportStatus",
    "Storage",
    "TaskCallbackEvent",
    "TaskCancellationEvent",
    "TaskUpdateEvent",
    "WorkflowRequestDraft",
    "WorkflowRequestEvent",
    "read_event",
]
