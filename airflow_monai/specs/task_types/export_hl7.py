"""``export_hl7``."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import TaskTypeSpec

SPEC = TaskTypeSpec(TaskType.EXPORT_HL7, "", prefixes=("",))
