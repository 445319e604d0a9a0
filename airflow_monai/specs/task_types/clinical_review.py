"""``clinical_review``: a person looks at what a task made, and accepts or rejects it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_monai.specs.findings import Finding, Location, warning
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.reviews import ReviewRoute, route_of
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec
from airflow_monai.specs.templates import ArtifactSource, TemplateError, canonical_templates, parse_artifact

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

MODES = ("QA", "Research", "Clinical")
REASONS = ("wrong or missing finding", "wrong anatomy", "image quality", "wrong patient or study", "other")
"""What a rejection may be due to, where the author names no reasons."""
NOT_REVIEWED = frozenset({TaskType.ROUTER, TaskType.EXPORT, TaskType.EXPORT_HL7, TaskType.EMAIL})
"""Types of task that make nothing a person could review."""


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    written = _argument(task, "reviewed_task_id")
    if written:
        yield from _reviewed(view, at, task, written)
    yield from _routes(view, at, task)


def _argument(task: TaskSpec, name: str) -> str:
    value = next((value for key, value in task.args.items() if key.lower() == name), "")
    return value.strip() if isinstance(value, str) and "{{" not in value else ""


def _reviewed(view: SpecView, at: Location, task: TaskSpec, written: str) -> Iterator[Finding]:
    place = (*at, "args", next(key for key in task.args if key.lower() == "reviewed_task_id"))
    reviewed = view.find(written)
    if reviewed is None:
        hint = view.suggestion(written)
        if hint is not None:
            yield Finding(place, "unknown-task", f"task {task.id!r}: there is no task {written[:100]!r}", hint)
        return
    if reviewed.type in NOT_REVIEWED | {TaskType.CLINICAL_REVIEW.value}:
        message = f"task {task.id!r}: a task of type {reviewed.type} makes nothing that can be reviewed"
        yield Finding(place, "not-reviewable", message, "name the task that makes the result")
        return
    if reviewed.id not in view.before(task.id):
        if view.is_graph_sure:
            message = f"task {reviewed.id!r} does not come before {task.id!r}, so that it has made nothing yet"
            yield Finding(place, "not-upstream", message, "name a task on the way to this one")
        return
    yield from _inputs(at, task, reviewed)


def _inputs(at: Location, task: TaskSpec, reviewed: TaskSpec) -> Iterator[Finding]:
    for index, artifact in enumerate(task.artifacts.input):
        try:
            reference = parse_artifact(artifact.value)
        except TemplateError:
            continue  # reported where all artifacts are
        is_study = reference.source is ArtifactSource.INPUT
        if not is_study and (reference.task or "").lower() != reviewed.id.lower():
            message = f"task {task.id!r}: input {artifact.name!r} is not of the reviewed task {reviewed.id!r}"
            place = (*at, "artifacts", "input", index, "value")
            yield Finding(place, "not-reviewed", message, "a review shows the study and what the reviewed task made")


def _routes(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    """Destinations whose conditions on the outcome do not do what they seem to."""
    for index, target in enumerate(task.task_destinations):
        route = route_of(task.id, (canonical_templates(text, view.ids) for text in target.conditions))
        place = (*at, "task_destinations", index, "conditions", 0)
        if route is ReviewRoute.EITHER:
            message = f"the conditions of {target.name!r} may hold after a rejection too, where it is never taken"
            hint = f"for a rejection, AND {{{{ context.executions.{task.id}.result.acceptance }}}} == 'false'"
            yield warning(place, "review-outcome", message, hint)
        elif route is ReviewRoute.NEVER:
            message = f"the conditions of {target.name!r} hold neither after an acceptance nor after a rejection"
            yield warning(place, "review-outcome", message, "a rejected review has the status PartialFail")


SPEC = TaskTypeSpec(
    TaskType.CLINICAL_REVIEW,
    "Waits until a person accepts or rejects what a task made; a rejection starts nothing that is not meant for it.",
    args=(
        Arg(
            "reviewed_task_id",
            "The task whose results are reviewed.",
            required=True,
            template=False,
            example="segment",
        ),
        Arg(
            "reviewer_roles",
            "Who may answer: roles that [monai] reviewer_roles gives users to.",
            Form.NAMES,
            default="clinician",
            template=False,
            example="radiologist",
        ),
        Arg(
            "application_name",
            "Name of the application, as the reviewer reads it.",
            default="that of the reviewed task",
            template=False,
            example="lung-seg",
        ),
        Arg(
            "application_version",
            "Its version.",
            default="that of the reviewed task",
            template=False,
            example="1.2.0",
        ),
        Arg("mode", "What the result is used for.", Form.CHOICE, choices=MODES, default="Clinical", template=False),
        Arg(
            "reasons",
            "What the reviewer can choose as the reason.",
            Form.NAMES,
            default=", ".join(REASONS),
            template=False,
            example="wrong organ, bad image",
        ),
        Arg(
            "instructions",
            "What the reviewer shall look at. A fixed text: Airflow keeps it.",
            template=False,
            example="Check the outline of both lungs.",
        ),
        Arg("notifications", "Read for published files; has no effect.", Form.BOOLEAN, template=False, example="true"),
        Arg("queue_name", "Read for published files; has no effect.", example="reviews"),
        Arg("workflow_name", "Read for published files; has no effect.", example="ct-lung"),
    ),
    check=_check,
)
