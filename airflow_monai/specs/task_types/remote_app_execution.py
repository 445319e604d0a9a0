"""``remote_app_execution``: an application elsewhere, which gets its input by export and sends its results back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import TaskTypeSpec

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

_EXAMPLE = "artifacts: {output: [{name: seg, type: SEG}]}"


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    """Results come back as DICOM or HL7 on their own; only their type tells which output they are."""
    if not task.artifacts.output and not view.doubts.lost(*at, "artifacts", "output"):
        message = f"task {task.id!r}: a remote_app_execution task needs at least one output artifact"
        yield Finding(at, "missing-output", message, _EXAMPLE)
    for index, output in enumerate(task.artifacts.output):
        place = (*at, "artifacts", "output", index)
        if output.type == "Unset" and not view.doubts.lost(*place, "type"):
            message = f"task {task.id!r}: output {output.name!r} needs a type, by which its files are known"
            yield Finding(place, "missing-output-type", message, "for example type: SEG")


SPEC = TaskTypeSpec(
    TaskType.REMOTE_APP_EXECUTION,
    "Sends its input to an application elsewhere and waits for the results. Needs a message broker.",
    needs_input=True,
    uses_destinations=True,
    check=_check,
)
