"""The operator of ``remote_app_execution`` tasks: an application elsewhere, asked by a message broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_monai.operators.light import LightOperator


class RemoteAppOperator(LightOperator):
    """Ask a gateway elsewhere to send the inputs to an application, and wait in the triggerer for its results.

    The request is one message (``md.externalapp.request``), published once; the results come as others
    (``md.workflow.artifactrecieved``), which a gateway of ours takes: the task ends when every mandatory output has
    files. That the inputs could not be sent (``md.export.complete``), or a callback, ends it too.

    :param destinations: names by which the far gateway knows the application.
    :param inputs: the artifacts to send; ``outputs``: what is to come back, each with a ``type``.
    """

    spec_type = "remote_app_execution"
    trigger_class = "airflow_monai.triggers.remote_app.RemoteAppTrigger"
    custom_operator_name = "remote app"
    ui_color = "#dfe6ee"

    def __init__(
        self,
        *,
        destinations: Sequence[str],
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        **kwargs: Any,
    ):
        self.destinations = list(dict.fromkeys(destinations))
        self.inputs = [dict(item) for item in inputs]
        self.outputs = [dict(item) for item in outputs]
        task = {"destinations": self.destinations, "inputs": self.inputs, "outputs": self.outputs}
        super().__init__(task=task, **kwargs)
