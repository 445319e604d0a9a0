"""``router``: a task that only divides."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import TaskTypeSpec

SPEC = TaskTypeSpec(
    TaskType.ROUTER, "Divides: it does nothing itself, the conditions of its destinations decide what follows."
)
