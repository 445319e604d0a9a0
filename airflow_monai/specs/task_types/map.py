"""``map``: a MONAI Application Package, in a container or a process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import Arg, TaskTypeSpec
from airflow_monai.specs.task_types.sandbox import RUNNER, SANDBOX, check_sandbox

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

# A reference has no parts that lead elsewhere: it may be looked up as a folder.
_RELATIVE = re.compile(r"(^|[/\\])\.{1,2}($|[/\\:@])")
_MAP = re.compile(r"[A-Za-z0-9./_~][^\s\x00-\x1f\x7f]{0,299}")


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    yield from check_sandbox((*at, "args"), task, task.args)
    value = task.args.get("map")
    if not isinstance(value, str) or "{{" in value:
        return  # reported by the table of arguments
    if not _MAP.fullmatch(value):
        message = f"task {task.id!r}: args.map must be name:version or an image reference, without blanks"
        yield Finding((*at, "args", "map"), "bad-map", message, 'for example "lung-seg:1.0.0"')
    elif _RELATIVE.search(value):
        message = f"task {task.id!r}: args.map must have no part that is '.' or '..'"
        yield Finding((*at, "args", "map"), "bad-map", message, 'for example "lung-seg:1.0.0"')


SPEC = TaskTypeSpec(
    TaskType.MAP,
    "Runs a MONAI Application Package.",
    args=(
        Arg(
            "map",
            "The application: name:version or an image reference.",
            required=True,
            template=False,
            example="lung-seg:1.2.0",
        ),
        RUNNER,
        *SANDBOX,
    ),
    prefixes=("env_",),
    needs_input=True,
    check=_check,
)
