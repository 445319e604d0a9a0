"""The operator of ``remote_app_execution`` tasks, as far as it goes without a message broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import InvalidArgument
from airflow_monai.operators.base import MonaiOperator, Outcome, TaskRun

if TYPE_CHECKING:
    from airflow.sdk import Context


class RemoteAppOperator(MonaiOperator):
    """Send the inputs to an application elsewhere and wait for its results.

    Both go over a message broker, which this version has not: the task fails and says so. The workflow loads, and all
    else in it can be tried.

    :param destinations: names of the destinations.
    :param inputs: the artifacts to send; ``outputs``: what is to come back, each with a ``type``.
    """

    spec_type = custom_operator_name = "remote_app_execution"
    ui_color = "#dfe6ee"

    def __init__(
        self,
        *,
        destinations: Sequence[str],
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.destinations = list(dict.fromkeys(destinations))
        self.inputs = [dict(item) for item in inputs]
        self.outputs = [dict(item) for item in outputs]

    def perform(self, run: TaskRun, context: Context) -> Outcome:
        raise InvalidArgument(
            f"Task {self.task_id}: remote_app_execution needs a message broker, which this version of airflow-monai "
            "does not speak to yet. Run the application as a map, docker or http_async task instead."
        )
