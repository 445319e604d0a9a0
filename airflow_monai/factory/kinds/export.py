"""``export``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, monai_arguments

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.export import ExportOperator

    return ExportOperator(**export_arguments(request))


KIND = TaskKind(make)


def export_arguments(request: TaskRequest) -> dict[str, Any]:
    """What an operator that exports takes."""
    task = request.task
    args = {name.lower(): value for name, value in task.args.items()}
    deadline, pool = args.get("deadline_minutes"), _pool(task.export_destinations, str(args.get("pool") or "").strip())
    return {
        "destinations": task.export_destinations,
        "inputs": inputs_of(task),
        "execution_timeout": timedelta(minutes=task.timeout_minutes) if task.timeout_minutes else None,
        "deadline_minutes": None if deadline in (None, "") else float(deadline),
        **({"pool": pool} if pool else {}),
        **monai_arguments(request),
        **request.common,
    }


def _pool(destinations: Sequence[str], own: str) -> str:
    """The pool that the task names, else the site's for the first destination that has one, else none."""
    if own:
        return own
    from airflow_monai import settings

    pools = settings.load_export_pools()
    return next((pools[name] for name in destinations if name in pools), "")
