"""``export``: deliver DICOM objects to their destinations."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import TaskTypeSpec

SPEC = TaskTypeSpec(
    TaskType.EXPORT,
    "Delivers DICOM objects to export_destinations, each instance once.",
    needs_input=True,
    uses_destinations=True,
)
