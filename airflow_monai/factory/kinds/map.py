"""``map``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MonaiError
from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, monai_arguments, outputs_of
from airflow_monai.specs.arguments import variables
from airflow_monai.specs.plan import Priority, Resources
from airflow_monai.specs.task_types.sandbox import SANDBOX

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


EXECUTION_GRACE = timedelta(minutes=30)
"""The map operator ends its task at ``timeout_minutes`` itself, counted from the application's start; Airflow steps in
so much later, should that fail. Before it starts an image of many gigabytes may have to be gotten."""


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.map import MapOperator

    task = request.task
    return MapOperator(
        map=task.args["map"],
        inputs=inputs_of(task),
        outputs=outputs_of(task),
        environment=variables(task.args),
        resources=resources_of(task.resources),
        runner=task.args.get("runner"),
        sandbox=sandbox_of(task.args),
        timeout_minutes=task.timeout_minutes or None,
        execution_timeout=execution_timeout(task.timeout_minutes, task.resources, task.args.get("runner")),
        **gpu_pool(request),
        **monai_arguments(request),
        **request.common,
    )


KIND = TaskKind(make)


def sandbox_of(args: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a task asks for of the site's policy; None when it asks for nothing."""
    return {arg.name: args[arg.name] for arg in SANDBOX if arg.name in args} or None


def execution_timeout(
    minutes: float, resources: Resources | None = None, runner: str | None = None
) -> timedelta | None:
    """When Airflow ends a task that ends itself after so many minutes; None for one without a limit.

    :param minutes: 0 for no limit but the site's, which counts too where it is the shorter one.
    :param resources: while it waits for a card its own time has not begun.
    :param runner: of the task, the site's when None: no more has it while a pod waits for a node.
    """
    from airflow_monai import settings

    minutes = min((limit for limit in (minutes, settings.load_max_timeout_minutes()) if limit), default=0)
    if not minutes:
        return None
    waits = settings.load_pending_minutes(runner)
    if _wants_card(resources):
        waits += settings.load_gpu().wait_minutes
    return timedelta(minutes=minutes + waits) + EXECUTION_GRACE


def resources_of(resources: Resources | None) -> dict[str, Any] | None:
    """What the spec says of resources, as the operator takes it; None when it says nothing."""
    if resources is None:
        return None
    named = {name: getattr(resources, name) for name in ("cpu", "memory", "shared_memory", "gpu", "gpu_memory")}
    return {name: value for name, value in named.items() if value is not None}


def gpu_pool(request: TaskRequest) -> dict[str, Any]:
    """Pool and slots of a task that wants a card.

    :raises MonaiError: when the request can never fit. Not in a worker, which is told the DAG it shall run: it must not
        fail a task that has already been given its place.
    """
    resources = request.task.resources
    if not _wants_card(resources):
        return {}
    # the runs of a batch are not urgent, and may be many
    urgent = request.task.priority is Priority.URGENT and request.plan.schedule is None
    from airflow.sdk import get_parsing_context

    from airflow_monai.gpu.pools import request_of

    try:
        wanted = request_of(resources, request.inventory(), urgent=urgent)
    except MonaiError:
        if get_parsing_context().dag_id is not None:
            return {}
        raise
    return {"pool": wanted.pool, "pool_slots": wanted.slots}


def _wants_card(resources: Resources | None) -> bool:
    return resources is not None and bool(resources.gpu or resources.gpu_memory)
