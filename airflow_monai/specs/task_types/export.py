"""``export``: deliver DICOM objects to their destinations."""

from __future__ import annotations

from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec

ARGS = (
    Arg(
        "deadline_minutes",
        "After so many minutes from its first try nothing more is sent and the verdict is final; 0 for no limit.",
        Form.NUMBER,
        default="that of the destination's connection, else [monai] export_deadline_minutes",
        template=False,
        minimum=0,
        maximum=525_600,
        example="60",
    ),
    Arg(
        "pool",
        "The Airflow pool that it runs in; its slots say how many exports run at a time. It must exist.",
        default="that of [monai] export_pools for the destination, else default_pool",
        template=False,
        example="to_pacs",
    ),
)

SPEC = TaskTypeSpec(
    TaskType.EXPORT,
    "Delivers DICOM objects to export_destinations, each instance once.",
    args=ARGS,
    ignores_others=True,
    needs_input=True,
    uses_destinations=True,
)
