"""``export``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, monai_arguments

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.export import ExportOperator

    task = request.task
    return ExportOperator(
        destinations=task.export_destinations,
        inputs=inputs_of(task),
        execution_timeout=timedelta(minutes=task.timeout_minutes) if task.timeout_minutes else None,
        **monai_arguments(request),
        **request.common,
    )


KIND = TaskKind(make)
