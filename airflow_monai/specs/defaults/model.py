"""The model of a ``defaults`` file: what the workflows in its folder and below take where they do not say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from airflow_monai.specs.checks.args import arguments
from airflow_monai.specs.checks.policy import retry_policies
from airflow_monai.specs.choices import TASK_TYPE_ALIASES, TASK_TYPES
from airflow_monai.specs.doubts import Doubts
from airflow_monai.specs.fields import (
    AeTitle,
    Duration,
    Number,
    OnFailureChoice,
    PriorityChoice,
    RetryPolicy,
    Whole,
)
from airflow_monai.specs.findings import KEY, Finding, Location
from airflow_monai.specs.model import (
    ExportDestination,
    InformaticsGateway,
    ResourcesSpec,
    TaskSpec,
    WorkflowSpec,
    _Days,
    _Model,
)
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.problems import nearest
from airflow_monai.specs.task_types import TASK_TYPE_SPECS
from airflow_monai.specs.view import SpecView

_ANY = "any"  # stands for the id of the task in messages


class GatewayDefaults(InformaticsGateway):
    """As a workflow's ``informatics_gateway``, all of it optional."""

    ae_title: AeTitle | None = None  # type: ignore[assignment]


class TaskDefaults(_Model):
    """What every task takes where it does not say it."""

    timeout_minutes: Annotated[Number, Field(ge=-1, le=525_600)] | None = None
    retries: Annotated[Whole, Field(ge=0, le=100)] | None = None
    retry_delay: Annotated[Duration, Field(ge=0, le=86_400)] | None = None
    retry_policy: RetryPolicy = Field(default_factory=dict)
    on_failure: OnFailureChoice | None = None
    priority: PriorityChoice | None = None
    resources: ResourcesSpec | None = None


class TaskTypeDefaults(TaskDefaults):
    """What every task of one type takes where it does not say it; goes before what is for all tasks."""

    args: dict[str, Any] = Field(default_factory=dict)
    export_destinations: list[ExportDestination] = Field(default_factory=list)


class DefaultsSpec(_Model):
    """A ``defaults`` file. It has no name, no version and no ids: these are each workflow's own.

    :param tasks: for all tasks; ``task_types``: for the tasks of a type, by its name.
    """

    informatics_gateway: GatewayDefaults | None = None
    priority: PriorityChoice | None = None
    data_retention_days: Annotated[_Days | None, Field(alias="dataRetentionDays")] = None
    tasks: TaskDefaults | None = None
    task_types: dict[str, TaskTypeDefaults] = Field(default_factory=dict)


def type_name(text: str) -> str:
    """The task type that a text names, in any of its spellings."""
    name = text.strip().lower()
    return TASK_TYPE_ALIASES.get(name, name)


def check_defaults(spec: DefaultsSpec) -> Iterator[Finding]:
    """What is wrong with a defaults file whose fields are well-formed."""
    if spec.tasks:
        yield from _policy(("tasks",), spec.tasks)
    for name, defaults in spec.task_types.items():
        at: Location = ("task_types", name)
        kind = type_name(name)
        if kind not in TASK_TYPES:
            hint = nearest(name, TASK_TYPES) or f"known: {', '.join(TASK_TYPES)}"
            yield Finding((*at, KEY), "unknown-task-type", f"there is no task type {name[:60]!r}", hint)
            continue
        if defaults.export_destinations and not TASK_TYPE_SPECS[TaskType(kind)].uses_destinations:
            message = f"a task of type {kind} does not use export_destinations"
            yield Finding((*at, "export_destinations"), "unused-destinations", message, "put them under export")
        yield from _arguments(at, kind, defaults)
        yield from _policy(at, defaults)


def _policy(at: Location, defaults: TaskDefaults) -> Iterator[Finding]:
    task = TaskSpec(id=_ANY, type=TaskType.ROUTER.value, retries=defaults.retries, retry_policy=defaults.retry_policy)
    for found in retry_policies(_view(task)):
        yield _of_any(found, (*at, *found.at[2:]))


def _arguments(at: Location, kind: str, defaults: TaskTypeDefaults) -> Iterator[Finding]:
    """As the checks of a task find it; required arguments may lack, and artifacts are not known here."""
    described = TASK_TYPE_SPECS[TaskType(kind)]
    task = TaskSpec(id=_ANY, type=kind, args=defaults.args)
    for found in arguments(_view(task), at, task, described):
        if found.code != "unknown-argument" or not described.takes_artifact_names:
            yield _of_any(found, found.at)


def _view(task: TaskSpec) -> SpecView:
    """A workflow of one task, of which nothing else is known."""
    return SpecView(WorkflowSpec.model_construct(tasks=[task]), Doubts(frozenset({()})))


def _of_any(found: Finding, at: Location) -> Finding:
    message = found.message.replace(f"task {_ANY!r}: ", "", 1).replace(f"task {_ANY!r}", "a task", 1)
    return replace(found, at=at, message=message)
