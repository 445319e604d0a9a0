"""How each task type of the language becomes an Airflow task: one file each.

A file is imported when a workflow has such a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest
from airflow_monai.specs.plan import TaskType

__all__ = ["KINDS", "TaskKind", "TaskRequest"]


class _Kinds(Mapping[TaskType, TaskKind]):
    def __getitem__(self, kind: TaskType) -> TaskKind:
        found: TaskKind = import_module(f"{__name__}.{kind.value}").KIND
        return found

    def __iter__(self) -> Iterator[TaskType]:
        return iter(TaskType)

    def __len__(self) -> int:
        return len(TaskType)


KINDS: Mapping[TaskType, TaskKind] = _Kinds()
