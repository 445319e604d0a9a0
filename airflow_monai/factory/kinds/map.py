"""``map``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, monai_arguments, outputs_of
from airflow_monai.specs.arguments import variables
from airflow_monai.specs.plan import Resources

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_monai.gpu.inventory import Inventory

EXECUTION_GRACE = timedelta(minutes=5)
"""The map operator ends its task at ``timeout_minutes`` itself; Airflow steps in so much later, should that fail."""


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.map import MapOperator

    task = request.task
    return MapOperator(
        map=task.args["map"],
        inputs=inputs_of(task),
        outputs=outputs_of(task),
        environment=variables(task.args),
        resources=resources_of(task.resources),
        timeout_minutes=task.timeout_minutes or None,
        execution_timeout=execution_timeout(task.timeout_minutes),
        **gpu_pool(task.resources, request.inventory),
        **monai_arguments(request),
        **request.common,
    )


KIND = TaskKind(make)


def execution_timeout(minutes: float) -> timedelta | None:
    """When Airflow ends a task that ends itself after so many minutes; None for one without a limit."""
    return timedelta(minutes=minutes) + EXECUTION_GRACE if minutes else None


def resources_of(resources: Resources | None) -> dict[str, Any] | None:
    """What the spec says of resources, as the operator takes it; None when it says nothing."""
    if resources is None:
        return None
    named = {name: getattr(resources, name) for name in ("cpu", "memory", "shared_memory", "gpu", "gpu_memory")}
    return {name: value for name, value in named.items() if value is not None}


def gpu_pool(resources: Resources | None, inventory: Callable[[], Inventory | None]) -> dict[str, Any]:
    """Pool and slots of a task that wants a card.

    Only the scheduler asks for them: a worker, which is told the DAG it shall run, must not fail a task that has
    already been given its place.

    :raises MonaiError: when the request can never fit.
    """
    if resources is None or not (resources.gpu or resources.gpu_memory):
        return {}
    from airflow.sdk import get_parsing_context

    if get_parsing_context().dag_id is not None:
        return {}
    from airflow_monai.gpu.pools import request_of

    wanted = request_of(resources, inventory())
    return {"pool": wanted.pool, "pool_slots": wanted.slots}
