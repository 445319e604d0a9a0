"""``argo``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, light_arguments, outputs_of
from airflow_monai.specs.argo_arguments import argument, parameters_of
from airflow_monai.specs.arguments import is_true

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_monai.specs.plan import TaskPlan

GPU = "nvidia.com/gpu"


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.argo import ArgoOperator

    task, args = request.task, request.task.args
    return ArgoOperator(
        template=str(args["workflow_template_name"]),
        namespace=str(args.get("namespace", "")),
        connection=str(args.get("connection", "")),
        server_url=str(args.get("server_url", "")),
        token=str(args.get("apiToken", "")),
        allow_insecure=is_true(args.get("allow_insecure")),
        parameters=parameters_of(args.get("parameters")),
        limits=dict(_limits(task)),
        priority_class=str(argument(args, "priority") or "").lower(),
        deadline_seconds=int(args["timeoutSeconds"]) if args.get("timeoutSeconds") else None,
        inputs=inputs_of(task),
        outputs=outputs_of(task),
        **light_arguments(request),
        **request.common,
    )


KIND = TaskKind(make, light=True)


def _limits(task: TaskPlan) -> Iterator[tuple[str, str]]:
    """What ``resources`` of the task says, and the arguments in place of it."""
    wanted, args = task.resources, task.args
    cpu = argument(args, "cpu") or (f"{wanted.cpu:g}" if wanted and wanted.cpu else "")
    memory = argument(args, "memory") or (wanted.memory if wanted else "")
    gpu = args.get("gpu_required")
    cards = f"{int(is_true(gpu))}" if gpu is not None else (f"{wanted.gpu:g}" if wanted and wanted.gpu else "")
    yield from ((name, str(value)) for name, value in (("cpu", cpu), ("memory", memory), (GPU, cards)) if value)
