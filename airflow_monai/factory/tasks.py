"""How each task type of the language becomes an Airflow task: one maker for each, found in :data:`KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_monai.specs.plan import Resources, TaskPlan, TaskType

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_monai.gpu.inventory import Inventory

EXECUTION_GRACE = timedelta(minutes=5)
"""The map operator ends its task at ``timeout_minutes`` itself; Airflow steps in so much later, should that fail."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What a maker gets.

    :param edges: the conditional edges that leave the task: ``{"node": ..., "conditions": [...]}``; empty for kinds
        that are ``light``, whose edges are gates.
    :param common: arguments that every operator takes (task_id, dag, trigger_rule, retries...).
    :param inventory: gives the site's cards when asked, or None where there is no inventory.
    """

    task: TaskPlan
    edges: Sequence[Mapping[str, Any]]
    common: Mapping[str, Any]
    inventory: Callable[[], Inventory | None]


@dataclass(frozen=True, slots=True)
class TaskKind:
    """How one task type runs.

    :param light: it never has a worker process, so its conditional edges are gates in the triggerer.
    """

    make: Callable[[TaskRequest], BaseOperator]
    light: bool = False


def make_router(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.gate import RouterOperator

    return RouterOperator(**request.common)


def make_map(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.map import MapOperator

    task = request.task
    timeout = timedelta(minutes=task.timeout_minutes) + EXECUTION_GRACE if task.timeout_minutes else None
    return MapOperator(
        map=task.args["map"],
        inputs=_inputs(task),
        outputs=[
            {"name": item.name, "type": item.type, "value": item.value, "mandatory": item.mandatory}
            for item in task.outputs
        ],
        resources=resources_of(task.resources),
        timeout_minutes=task.timeout_minutes or None,
        edges=request.edges,
        result_keys=task.result_keys,
        execution_timeout=timeout,
        **_pool(task.resources, request.inventory),
        **request.common,
    )


def make_export(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.export import ExportOperator

    task = request.task
    return ExportOperator(
        destinations=task.export_destinations,
        inputs=_inputs(task),
        edges=request.edges,
        result_keys=task.result_keys,
        execution_timeout=timedelta(minutes=task.timeout_minutes) if task.timeout_minutes else None,
        **request.common,
    )


KINDS: Mapping[TaskType, TaskKind] = {
    TaskType.ROUTER: TaskKind(make_router, light=True),
    TaskType.MAP: TaskKind(make_map),
    TaskType.EXPORT: TaskKind(make_export),
}


def resources_of(resources: Resources | None) -> dict[str, Any] | None:
    """What the spec says of resources, as the operator takes it; None when it says nothing."""
    if resources is None:
        return None
    named = {name: getattr(resources, name) for name in ("cpu", "memory", "shared_memory", "gpu", "gpu_memory")}
    return {name: value for name, value in named.items() if value is not None}


def _inputs(task: TaskPlan) -> list[dict[str, Any]]:
    return [{"name": item.name, "value": item.value, "mandatory": item.mandatory} for item in task.inputs]


def _pool(resources: Resources | None, inventory: Callable[[], Inventory | None]) -> dict[str, Any]:
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
