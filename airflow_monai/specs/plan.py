"""What the factory builds from: a workflow as plain frozen data, with a quick way to and from JSON.

Nothing here needs pydantic, YAML or Airflow: the DAG processor reads plans and must not pay for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class TaskType(str, Enum):
    """Types of task that this version runs."""

    MAP = "map"
    EXPORT = "export"
    ROUTER = "router"


@dataclass(frozen=True, slots=True)
class InputArtifact:
    """What a task reads: ``value`` is a template such as ``{{ context.input.dicom }}``."""

    name: str
    value: str
    mandatory: bool = True


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
    :param is_join: it has two or more predecessors.
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
    resources: Resources | None = None
    result_keys: tuple[str, ...] = ()
    is_join: bool = False
    previous: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskPlan:
        """The task that ``asdict`` made this of."""
        known = dict(data)
        known["type"] = TaskType(known["type"])
        known["inputs"] = tuple(InputArtifact(**item) for item in known.get("inputs", ()))
        known["outputs"] = tuple(OutputArtifact(**item) for item in known.get("outputs", ()))
        resources = known.get("resources")
        known["resources"] = Resources(**resources) if resources else None
        for name in ("export_destinations", "result_keys", "previous"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """One workflow; its first task is the root.

    :param digest: SHA-256 of the file it was made from, line ends normalised.
    :param source: name of that file.
    :param quiet_seconds: how long a study must be quiet before it is complete; None for the site's default.
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
    predicate: tuple[str, ...] = ()

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
        """Plain data that JSON can hold."""
        data = asdict(self)
        for task in data["tasks"]:
            task["type"] = task["type"].value
        return data

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
        return cls(**known)
