"""Names of arguments as the tables of the task types spell them; files may write them in any case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_monai.specs.choices import TASK_TYPE_ALIASES
from airflow_monai.specs.findings import KEY, Finding, Location
from airflow_monai.specs.task_types import TASK_TYPE_SPECS, TaskTypeSpec
from airflow_monai.specs.tree.nodes import Node

_KINDS = {kind.value: spec for kind, spec in TASK_TYPE_SPECS.items()}


def spell_arguments(data: Any, places: dict[Location, Node]) -> Iterator[Finding]:
    """Rename the arguments of all tasks, in the data and in the places; an argument that is given twice is a finding.

    :param data: of a workflow, as plain data that may have any shape.
    :param places: of the data; those of renamed arguments are added.
    """
    tasks = data.get("tasks") if isinstance(data, dict) else None
    for index, task in enumerate(tasks if isinstance(tasks, list) else ()):
        if not isinstance(task, dict) or not isinstance(args := task.get("args"), dict):
            continue
        kind = _kind(task.get("type"))
        if kind is not None:
            yield from _spell(args, kind, ("tasks", index, "args"), places)


def _kind(written: Any) -> TaskTypeSpec | None:
    name = written.strip().lower() if isinstance(written, str) else ""
    return _KINDS.get(TASK_TYPE_ALIASES.get(name, name))


def _spell(args: dict[str, Any], kind: TaskTypeSpec, at: Location, places: dict[Location, Node]) -> Iterator[Finding]:
    for written in list(args):
        arg = kind.arg(written)
        if arg is None or arg.name == written:
            continue
        if arg.name in args:
            yield Finding((*at, written, KEY), "duplicate-key", f"{arg.name!r} is given twice", "keep one of them")
            continue
        args[arg.name] = args.pop(written)
        for end in ((), (KEY,)):
            if (*at, written, *end) in places:
                places[(*at, arg.name, *end)] = places[(*at, written, *end)]
