"""``router``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, light_arguments

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    if request.task.is_asked_for:
        from airflow_monai.operators.router import RecordedRouterOperator

        return RecordedRouterOperator(**light_arguments(request), **request.common)
    from airflow_monai.operators.gate import RouterOperator

    return RouterOperator(**request.common)


KIND = TaskKind(make, light=True)
