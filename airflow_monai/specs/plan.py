"""What the factory builds from: a workflow as plain frozen data, with a quick way to and from JSON.

Nothing here needs pydantic, YAML or Airflow: the DAG processor reads plans and must not pay for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

BATCH_SUFFIX = ".batch"
"""Ends the id of the DAG that starts a workflow's batches."""


class TaskType(str, Enum):
    """Types of task."""

    MAP = "map"
    EXPORT = "export"
    ROUTER = "router"
    DOCKER = "docker"
    HTTP = "http"
    HTTP_ASYNC = "http_async"
    ARGO = "argo"
    EMAIL = "email"
    CLINICAL_REVIEW = "clinical_review"
    EXPORT_HL7 = "export_hl7"
    REMOTE_APP_EXECUTION = "remote_app_execution"


class ForEach(str, Enum):
    """What a task runs once for each of."""

    SERIES = "series"


class OnFailure(str, Enum):
    """What a failure before a task means to it: it does not run, or it runs with what there is."""

    STOP = "stop"
    CONTINUE = "continue"


class Priority(str, Enum):
    """Which of several waiting tasks goes first."""

    URGENT = "urgent"
    ROUTINE = "routine"
    BATCH = "batch"


class Grouping(str, Enum):
    """What of the images that arrive becomes one payload."""

    STUDY = "study"
    SERIES = "series"
    PATIENT = "patient"


class LateImages(str, Enum):
    """What becomes of new images of a payload that has been closed: a payload of their own, nothing, or a new run of
    the workflow on all images together."""

    NEW_PAYLOAD = "new_payload"
    IGNORE = "ignore"
    RERUN = "rerun"


class Kind(str, Enum):
    """Type of a value that a person enters into a form."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class InputArtifact:
    """What a task reads: ``value`` is a template such as ``{{ context.input.dicom }}``.

    :param reviews: ids of the reviews of it that lead to the task: what one of them did not accept is not there.
    :param conditions: of the way here from the task for each series that made it: what series made for which they do
        not hold is not there.
    """

    name: str
    value: str
    mandatory: bool = True
    reviews: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputArtifact:
        return cls(**{**data, **{name: tuple(data.get(name, ())) for name in ("reviews", "conditions")}})


@dataclass(frozen=True, slots=True)
class OutputArtifact:
    """What a task must (``mandatory``) or may produce; ``type`` is a modality, Folder, HL7 or Unset."""

    name: str
    type: str = "Unset"
    value: str | None = None
    mandatory: bool = True


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task may use; None where the spec does not say.

    :param cpu: cores.
    :param memory: with its unit as written, ``8Gi`` (``airflow_monai.specs.units.memory_bytes`` reads it); also
        ``shared_memory`` and ``gpu_memory``.
    :param gpu: cards.
    """

    cpu: float | None = None
    memory: str | None = None
    shared_memory: str | None = None
    gpu: float | None = None
    gpu_memory: str | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one task to another, taken when all its conditions hold.

    :param node_id: Airflow task id of the edge's own node; None for a direct dependency, which an edge is when it has
        no condition and its target is no join.
    """

    source: str
    target: str
    conditions: tuple[str, ...] = ()
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task of a workflow.

    :param timeout_minutes: 0 means without limit.
    :param result_keys: keys of this task's result that conditions and templates of the workflow ask for, sorted.
    :param retry_delay_seconds: before the first retry; None for the default.
    :param retry_policy: kind of failure -> ``retry`` or ``fail``, where it is not the default of
        :mod:`airflow_monai.failures`.
    :param for_each: it runs once for each of these, None when it runs once.
    :param on_failure: what a failure before it means to it.
    :param priority: its own, or the workflow's.
    :param is_join: it has two or more predecessors, or comes after tasks that run once for each series.
    :param is_asked_for: conditions or templates of the workflow ask for what it did.
    :param previous: ids of its predecessors.
    """

    id: str
    type: TaskType
    description: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[InputArtifact, ...] = ()
    outputs: tuple[OutputArtifact, ...] = ()
    export_destinations: tuple[str, ...] = ()
    retries: int = 0
    timeout_minutes: float = 60.0
    retry_delay_seconds: float | None = None
    retry_policy: Mapping[str, str] = field(default_factory=dict)
    resources: Resources | None = None
    for_each: ForEach | None = None
    on_failure: OnFailure = OnFailure.STOP
    priority: Priority = Priority.ROUTINE
    result_keys: tuple[str, ...] = ()
    is_join: bool = False
    is_asked_for: bool = False
    previous: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskPlan:
        """The task that ``asdict`` made this of."""
        known = dict(data)
        known["type"] = TaskType(known["type"])
        known["for_each"] = ForEach(known["for_each"]) if known.get("for_each") else None
        known["on_failure"] = OnFailure(known.get("on_failure", OnFailure.STOP))
        known["priority"] = Priority(known.get("priority", Priority.ROUTINE))
        known["inputs"] = tuple(InputArtifact.from_dict(item) for item in known.get("inputs", ()))
        known["outputs"] = tuple(OutputArtifact(**item) for item in known.get("outputs", ()))
        resources = known.get("resources")
        known["resources"] = Resources(**resources) if resources else None
        for name in ("export_destinations", "result_keys", "previous"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Param:
    """A value that whoever triggers a run may give; ``context.params.<name>`` in templates.

    :param default: of the type that ``kind`` says; None where there is none, and then it has to be given.
    """

    name: str
    kind: Kind = Kind.STRING
    default: Any = None
    title: str = ""
    description: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Param:
        return cls(**{**data, "kind": Kind(data["kind"]), "choices": tuple(data.get("choices", ()))})


@dataclass(frozen=True, slots=True)
class Selection:
    """Which payloads a batch takes: those that meet everything it says.

    :param ae_titles: called AE titles; none for that of the workflow.
    :param received_within_seconds: closed so recently, when the batch starts.
    :param received_after: and ``received_before``: closed then, ISO 8601 with offset.
    :param conditions: of the condition language, over the study.
    :param study_instance_uids: only these.
    :param include_processed: also those that a workflow run of this version has been created for.
    """

    ae_titles: tuple[str, ...] = ()
    data_origins: tuple[str, ...] = ()
    received_within_seconds: float | None = None
    received_after: str | None = None
    received_before: str | None = None
    conditions: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    include_processed: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Selection:
        lists = ("ae_titles", "data_origins", "conditions", "study_instance_uids")
        return cls(**{**data, **{name: tuple(data.get(name, ())) for name in lists}})


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a workflow's batch starts, and what it takes.

    :param cron: a cron expression or a preset such as ``@daily``.
    :param max_active: runs of the batch that may be under way at once.
    :param limit: payloads that one batch takes at most; None for all.
    """

    cron: str
    timezone: str = "UTC"
    select: Selection = field(default_factory=Selection)
    max_active: int = 4
    limit: int | None = None
    priority: Priority = Priority.BATCH

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        known = {"select": Selection.from_dict(data["select"]), "priority": Priority(data["priority"])}
        return cls(**{**data, **known})


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """One workflow; its first task is the root.

    :param digest: SHA-256 of the file it was made from, line ends normalised.
    :param source: name of that file.
    :param quiet_seconds: how long a study must be quiet before it is complete; None for the site's default.
    :param grouping: and ``late_images``: None for the default (study, new payload).
    """

    name: str
    dag_id: str
    version: str
    digest: str
    source: str
    ae_title: str
    tasks: tuple[TaskPlan, ...]
    edges: tuple[Edge, ...] = ()
    description: str = ""
    data_origins: tuple[str, ...] = ()
    export_destinations: tuple[str, ...] = ()
    quiet_seconds: float | None = None
    grouping: Grouping | None = None
    late_images: LateImages | None = None
    predicate: tuple[str, ...] = ()
    priority: Priority = Priority.ROUTINE
    params: tuple[Param, ...] = ()
    schedule: Schedule | None = None

    @property
    def batch_dag_id(self) -> str:
        """Id of the DAG that starts batches, for a workflow with a schedule."""
        return f"{self.dag_id}{BATCH_SUFFIX}"

    @property
    def root(self) -> TaskPlan:
        return self.tasks[0]

    def task(self, task_id: str) -> TaskPlan:
        """The task of this id.

        :raises KeyError: when there is none.
        """
        for task in self.tasks:
            if task.id == task_id:
                return task
        raise KeyError(task_id)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold (its enums are texts)."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkflowPlan:
        """The plan that ``to_dict`` made this of, also after a way through JSON."""
        known = dict(data)
        known["tasks"] = tuple(TaskPlan.from_dict(task) for task in known["tasks"])
        known["edges"] = tuple(
            Edge(edge["source"], edge["target"], tuple(edge["conditions"]), edge["node_id"]) for edge in known["edges"]
        )
        for name in ("data_origins", "export_destinations", "predicate"):
            known[name] = tuple(known.get(name, ()))
        known["grouping"] = Grouping(known["grouping"]) if known.get("grouping") else None
        known["late_images"] = LateImages(known["late_images"]) if known.get("late_images") else None
        known["priority"] = Priority(known.get("priority", Priority.ROUTINE))
        known["params"] = tuple(Param.from_dict(item) for item in known.get("params", ()))
        known["schedule"] = Schedule.from_dict(known["schedule"]) if known.get("schedule") else None
        return cls(**known)
