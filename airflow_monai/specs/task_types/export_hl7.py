"""``export_hl7``: deliver files of any kind to their destinations."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import TaskTypeSpec
from airflow_monai.specs.task_types.export import ARGS

SPEC = TaskTypeSpec(
    TaskType.EXPORT_HL7,
    "Delivers HL7 messages, or files of any other kind, to export_destinations that take them, each file once.",
    args=ARGS,
    ignores_others=True,
    needs_input=True,
    uses_destinations=True,
)
