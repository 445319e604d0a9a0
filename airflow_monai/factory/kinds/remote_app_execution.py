"""``remote_app_execution``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, light_arguments, outputs_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.remote_app import RemoteAppOperator

    task = request.task
    return RemoteAppOperator(
        destinations=task.export_destinations,
        inputs=inputs_of(task),
        outputs=outputs_of(task),
        **light_arguments(request),
        **request.common,
    )


KIND = TaskKind(make, light=True)
