"""The task types of the language, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec

__all__ = ["TASK_TYPE_SPECS", "Arg", "Form", "TaskTypeSpec"]

TASK_TYPE_SPECS: Mapping[TaskType, TaskTypeSpec] = {
    kind: import_module(f"{__name__}.{kind.value}").SPEC for kind in TaskType
}
