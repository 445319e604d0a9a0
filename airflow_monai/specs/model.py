"""The model of a workflow file: its objects and fields, as the MONAI Deploy workflow definition names them."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from airflow_monai.specs.fields import (
    AeTitle,
    ArtifactKind,
    ArtifactName,
    Boolean,
    Condition,
    Description,
    Memory,
    Name,
    Number,
    TaskId,
    TaskKind,
    Template,
    Version,
    Whole,
)


class _Model(BaseModel):
    """Unknown fields are refused; nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class InformaticsGateway(_Model):
    """Who may send studies to the workflow, and where its results may go.

    :param ae_title: called AE title that the workflow listens to.
    :param data_origins: calling AE titles it accepts; none for all.
    :param export_destinations: names of the sinks its tasks may use.
    :param quiet_seconds: how long nothing must arrive before a study is complete.
    """

    ae_title: AeTitle
    data_origins: list[AeTitle] = Field(default_factory=list)
    export_destinations: list[Name] = Field(default_factory=list)
    quiet_seconds: Annotated[Number, Field(ge=0.1, le=86_400)] | None = None


class InputArtifactSpec(_Model):
    """What a task reads."""

    name: ArtifactName
    value: Template
    mandatory: Boolean = True


class OutputArtifactSpec(_Model):
    """What a task produces."""

    name: ArtifactName
    type: ArtifactKind = "Unset"
    value: Template | None = None
    mandatory: Boolean = True


class Artifacts(_Model):
    """Inputs and outputs of a task."""

    input: list[InputArtifactSpec] = Field(default_factory=list)
    output: list[OutputArtifactSpec] = Field(default_factory=list)


class TaskDestination(_Model):
    """A task that may follow, and the conditions under which it does (all of them must hold)."""

    name: TaskId
    conditions: list[Condition] = Field(default_factory=list)


class ExportDestination(_Model):
    """A sink, by its name in the informatics gateway's list."""

    name: Name


class ResourcesSpec(_Model):
    """What a task may use."""

    cpu: Annotated[Number, Field(gt=0, le=1024)] | None = None
    memory: Memory | None = None
    shared_memory: Annotated[Memory | None, Field(alias="sharedMemory")] = None
    gpu: Annotated[Number, Field(ge=0, le=64)] | None = None
    gpu_memory: Annotated[Memory | None, Field(alias="gpuMemory")] = None


class TaskSpec(_Model):
    """One task.

    :param timeout_minutes: -1 for the default, 0 for no limit.
    """

    id: TaskId
    type: TaskKind
    description: Description = ""
    args: dict[str, Any] = Field(default_factory=dict)
    artifacts: Artifacts = Field(default_factory=Artifacts)
    task_destinations: list[TaskDestination] = Field(default_factory=list)
    export_destinations: list[ExportDestination] = Field(default_factory=list)
    timeout_minutes: Annotated[Number, Field(ge=-1, le=525_600)] = -1.0
    retries: Annotated[Whole, Field(ge=0, le=100)] | None = None
    resources: ResourcesSpec | None = None


_Days = Annotated[Whole, Field(ge=-1, le=36_500)]


class WorkflowSpec(_Model):
    """A workflow file; the first of its tasks is the root.

    :param predicate: conditions on the study, all of which must hold, or the workflow does not want it.
    """

    name: Name
    version: Version
    description: Description = ""
    informatics_gateway: InformaticsGateway
    predicate: list[Condition] = Field(default_factory=list)
    data_retention_days: Annotated[_Days | None, Field(alias="dataRetentionDays")] = None
    tasks: Annotated[list[TaskSpec], Field(min_length=1, max_length=1_000)]

    _source: str = PrivateAttr(default="")
    _digest: str = PrivateAttr(default="")
    _place: tuple[int, int] = PrivateAttr(default=(1, 1))

    @property
    def source(self) -> str:
        """Name of the file it was read from; empty when it was made in code."""
        return self._source

    @property
    def digest(self) -> str:
        """SHA-256 of the file's text, line ends normalised (of the fields, when it was made in code)."""
        return self._digest or hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def place(self) -> tuple[int, int]:
        """Line and column of its name in that file."""
        return self._place

    def read_from(self, source: str, text: str, place: tuple[int, int]) -> WorkflowSpec:
        """This spec, knowing the file it came from."""
        self._source, self._place = source, place
        self._digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return self
