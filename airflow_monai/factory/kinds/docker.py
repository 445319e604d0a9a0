"""``docker``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, monai_arguments, outputs_of
from airflow_monai.factory.kinds.map import execution_timeout, gpu_pool, resources_of, sandbox_of
from airflow_monai.specs.arguments import is_true, variables, words

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_monai.specs.plan import TaskPlan


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.container import ContainerOperator

    task, args = request.task, request.task.args
    return ContainerOperator(
        image=args["container_image"],
        entrypoint=words(args.get("entrypoint")),
        command=words(args.get("command")),
        paths=_paths(task),
        environment=variables(args),
        scratch=str(args.get("env_MONAI_WORKDIR", "")),
        user=_user(args),
        always_pull=is_true(args.get("always_pull")),
        runner=args.get("runner"),
        sandbox=sandbox_of(args),
        inputs=inputs_of(task),
        outputs=outputs_of(task),
        resources=resources_of(task.resources),
        timeout_minutes=task.timeout_minutes or None,
        execution_timeout=execution_timeout(task.timeout_minutes, task.resources, task.args.get("runner")),
        **gpu_pool(request),
        **monai_arguments(request),
        **request.common,
    )


KIND = TaskKind(make)


def _paths(task: TaskPlan) -> dict[str, str]:
    names = [*(item.name for item in task.inputs), *(item.name for item in task.outputs)]
    return {name: str(task.args[name]) for name in names}


def _user(args: Mapping[str, Any]) -> str:
    """A user by number, who is not root; with any other the site's own runs it, which a check has told."""
    user = str(args.get("user", "")).strip()
    return user if user.partition(":")[0].isdecimal() and int(user.partition(":")[0]) else ""
