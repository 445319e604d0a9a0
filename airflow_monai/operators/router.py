"""A router whose status somebody asks for."""

from __future__ import annotations

from typing import Any

from airflow_monai.operators.gate import GATE_RETRIES, GATE_RETRY_DELAY
from airflow_monai.operators.light import LightOperator


class RecordedRouterOperator(LightOperator):
    """A task that only divides, and leaves a record in the store: ``context.executions.<router>.status``.

    A router that nobody asks for is a :class:`airflow_monai.operators.gate.RouterOperator`, which costs nothing.
    """

    spec_type = custom_operator_name = "router"
    trigger_class = "airflow_monai.triggers.router.RouterTrigger"
    ui_color = "#e3ecf7"

    def __init__(self, **kwargs: Any):
        patience = {"retries": GATE_RETRIES, "retry_delay": GATE_RETRY_DELAY}
        super().__init__(task={}, **{**kwargs, **({} if kwargs.get("retries") else patience)})
