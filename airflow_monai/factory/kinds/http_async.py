"""``http_async``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.errors import MonaiError
from airflow_monai.factory.kinds.base import TaskKind, TaskRequest

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    raise MonaiError(f"Task {request.task.id!r}: tasks of type {request.task.type.value} cannot be run yet.")


KIND = TaskKind(make)
