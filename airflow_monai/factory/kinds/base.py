"""What a maker of Airflow tasks gets, and what the makers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_monai.specs.plan import TaskPlan, WorkflowPlan

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_monai.gpu.inventory import Inventory


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What a maker gets.

    :param plan: the workflow that the task is of.
    :param edges: the conditional edges that leave the task: ``{"node": ..., "conditions": [...]}``; empty where they
        are gates: for kinds that are ``light``, and for tasks that run for each series.
    :param common: arguments that every operator takes (task_id, dag, trigger_rule, retries...).
    :param inventory: gives the site's cards when asked, or None where there is no inventory.
    """

    plan: WorkflowPlan
    task: TaskPlan
    edges: Sequence[Mapping[str, Any]]
    common: Mapping[str, Any]
    inventory: Callable[[], Inventory | None]


@dataclass(frozen=True, slots=True)
class TaskKind:
    """How one task type runs.

    :param light: it never has a worker process, so its conditional edges are gates in the triggerer.
    :param is_answered: a person ends it, who may also mark it as success: its conditional edges are gates, so that even
        then they are judged by what its record says.
    """

    make: Callable[[TaskRequest], BaseOperator]
    light: bool = False
    is_answered: bool = False

    @property
    def has_gates(self) -> bool:
        return self.light or self.is_answered


def inputs_of(task: TaskPlan) -> list[dict[str, Any]]:
    """The input artifacts as operators take them."""
    return [
        {
            "name": item.name,
            "value": item.value,
            "mandatory": item.mandatory,
            **({"reviews": list(item.reviews)} if item.reviews else {}),
            **({"conditions": list(item.conditions)} if item.conditions else {}),
        }
        for item in task.inputs
    ]


def outputs_of(task: TaskPlan) -> list[dict[str, Any]]:
    """The output artifacts as operators take them."""
    return [
        {"name": item.name, "type": item.type, "value": item.value, "mandatory": item.mandatory}
        for item in task.outputs
    ]


def monai_arguments(request: TaskRequest) -> dict[str, Any]:
    """What every operator with a record takes: a :class:`airflow_monai.operators.base.MonaiOperator`."""
    return {
        "edges": request.edges,
        "result_keys": request.task.result_keys,
        "failure_policy": request.task.retry_policy,
        "workflow_params": params_of(request.plan),
        "for_each": for_each_of(request.task),
        "previous_task_id": previous_of(request.task),
    }


def light_arguments(request: TaskRequest) -> dict[str, Any]:
    """What every light operator takes: a :class:`airflow_monai.operators.light.LightOperator`."""
    task = request.task
    return {
        "result_keys": task.result_keys,
        "timeout_minutes": task.timeout_minutes,
        "failure_policy": task.retry_policy,
        "workflow_name": request.plan.name,
        "workflow_description": request.plan.description,
        "workflow_params": params_of(request.plan),
        "for_each": for_each_of(task),
        "previous_task_id": previous_of(task),
    }


def for_each_of(task: TaskPlan) -> str | None:
    """``series`` for a task that runs for each, as operators take it."""
    return task.for_each.value if task.for_each else None


def previous_of(task: TaskPlan) -> str | None:
    """The one task before it, None where there is none or more than one."""
    return task.previous[0] if len(task.previous) == 1 else None


def params_of(plan: WorkflowPlan) -> dict[str, Any]:
    """Name -> default of the workflow's parameters."""
    return {param.name: param.default for param in plan.params}
