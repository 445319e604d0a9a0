"""``http``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, light_arguments, outputs_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.http import HttpRequestOperator

    task, shared = request.task, light_arguments(request)
    return HttpRequestOperator(request=task.args, outputs=outputs_of(task), **shared, **request.common)


KIND = TaskKind(make, light=True)
