"""``clinical_review``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_monai.factory.kinds.base import TaskKind, TaskRequest, inputs_of, monai_arguments
from airflow_monai.specs.addresses import listed
from airflow_monai.specs.plan import TaskPlan, TaskType
from airflow_monai.specs.task_types.clinical_review import MODES, REASONS
from airflow_monai.specs.templates import ArtifactSource, parse_artifact

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


def make(request: TaskRequest) -> BaseOperator:
    from airflow_monai.operators.review import ClinicalReviewOperator

    task = request.task
    args = {name.lower(): value for name, value in task.args.items()}
    reviewed = _reviewed(request, str(args["reviewed_task_id"]).strip())
    return ClinicalReviewOperator(
        reviewed_task_id=reviewed.id,
        inputs=_shown(task, reviewed),
        application=_application(args, reviewed),
        mode=next(mode for mode in MODES if mode.lower() == str(args.get("mode", "Clinical")).strip().lower()),
        reviewer_roles=listed(args.get("reviewer_roles")),
        reasons=listed(args.get("reasons")) or REASONS,
        instructions=str(args.get("instructions", "")),
        skips_successors=False,  # the plan has the acceptance among the conditions of every way
        response_timeout=timedelta(minutes=task.timeout_minutes) if task.timeout_minutes else None,
        **monai_arguments(request),
        **request.common,
    )


KIND = TaskKind(make, is_answered=True)


def _reviewed(request: TaskRequest, written: str) -> TaskPlan:
    return next(task for task in request.plan.tasks if task.id.lower() == written.lower())


def _shown(task: TaskPlan, reviewed: TaskPlan) -> list[dict[str, Any]]:
    """The inputs that the review names, else all that the reviewed task makes; with their types."""
    types = {output.name: output.type for output in reviewed.outputs}
    if not task.inputs:
        return [
            {
                "name": output.name,
                "type": output.type,
                "value": f"{{{{ context.executions.{reviewed.id}.artifacts.{output.name} }}}}",
                "mandatory": output.mandatory,
            }
            for output in reviewed.outputs
        ]
    return [{**item, "type": _type_of(item["value"], types)} for item in inputs_of(task)]


def _type_of(value: str, types: dict[str, str]) -> str:
    reference = parse_artifact(value)
    return "DICOM" if reference.source is ArtifactSource.INPUT else types.get(reference.artifact or "", "Folder")


def _application(args: dict[str, Any], reviewed: TaskPlan) -> str:
    """Name and version as the reviewer reads them; what the review does not say is that of the reviewed task."""
    own = {
        TaskType.MAP: "map",
        TaskType.DOCKER: "container_image",
        TaskType.ARGO: "workflow_template_name",
    }.get(reviewed.type)
    name, version = _name_and_version(str(reviewed.args.get(own, reviewed.id)) if own else reviewed.id)
    name, version = str(args.get("application_name") or name), str(args.get("application_version") or version)
    return f"{name} {version}".strip()


def _name_and_version(reference: str) -> tuple[str, str]:
    """``registry:5000/lung-seg:1.2.0`` -> ``lung-seg``, ``1.2.0``."""
    name, _, version = reference.partition("@")[0].rpartition("/")[2].partition(":")
    return name, version
