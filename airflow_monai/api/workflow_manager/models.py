"""Workflow instances and their tasks as clients of the Workflow Manager know them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from airflow_monai.api.workflow_manager.statuses import FailureReason, InstanceStatus
from airflow_monai.types import TaskStatus

_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


class TaskExecution(BaseModel):
    """A task of a workflow instance. It gets a new execution id when it is cleared, not when it is tried again."""

    execution_id: str = Field(examples=[_ID])
    workflow_instance_id: str = Field(examples=[_ID])
    task_id: str = Field(examples=["segment"])
    map_index: int = Field(-1, description="Which series of the payload, from 0; -1 for a task that runs once.")
    task_type: str = Field(examples=["map"])
    task_start_time: datetime | None = None
    task_end_time: datetime | None = None
    execution_stats: dict[str, Any] = {}
    task_plugin_arguments: dict[str, Any] = Field(
        {}, description="As the workflow says them now, without what looks like a secret."
    )
    previous_task_id: str = ""
    status: TaskStatus = Field(examples=[TaskStatus.SUCCEEDED])
    reason: FailureReason = FailureReason.NONE
    error_message: str | None = None
    input_artifacts: dict[str, str] = {}
    output_artifacts: dict[str, str] = Field({}, description="Name -> folder in the store.")
    output_directory: str | None = None
    result: dict[str, Any] | None = Field(None, description="Only for those who may read data; else null.")
    next_timeout: datetime | None = None
    timeout_interval: float | None = Field(None, description="Minutes.")
    acknowledged_task_errors: datetime | None = None


class WorkflowInstance(BaseModel):
    """A run of a workflow on a payload."""

    Version: str = "1.0.0"
    id: str = Field(examples=[_ID])
    ae_title: str = Field(examples=["CTLUNG"])
    workflow_name: str = Field(examples=["ct-lung"])
    workflow_id: str = Field(examples=[_ID])
    payload_id: str = Field(examples=[_ID])
    start_time: datetime | None = None
    status: InstanceStatus
    bucket_id: str = "monai"
    input_metadata: dict[str, Any] = {}
    tasks: list[TaskExecution] = []
    acknowledged_workflow_errors: datetime | None = None
