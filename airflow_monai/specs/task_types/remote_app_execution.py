"""``remote_app_execution``."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import TaskTypeSpec

SPEC = TaskTypeSpec(TaskType.REMOTE_APP_EXECUTION, "", prefixes=("",))
