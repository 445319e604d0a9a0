"""``router``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.gate import RouterOperator

    return RouterOperator(**request.common)


KIND = TaskKind(make, light=True)
