"""The model of a workflow file: its objects and fields, as the MONAI Deploy workflow definition names them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from airflow_monai.specs.defaults.text import Defaults, text_digest
from airflow_monai.specs.fields import (
    AeTitle,
    ArtifactKind,
    ArtifactName,
    Boolean,
    Condition,
    Description,
    Duration,
    ForEachChoice,
    GroupingChoice,
    KindChoice,
    LateImagesChoice,
    Memory,
    Name,
    Number,
    OnFailureChoice,
    PriorityChoice,
    RetryPolicy,
    TaskId,
    TaskKind,
    Template,
    Version,
    Whole,
)
from airflow_monai.specs.plan import Kind, OnFailure

_MANY = Field(max_length=1_000)


class _Model(BaseModel):
    """Unknown fields are refused; nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class InformaticsGateway(_Model):
    """Who may send studies to the workflow, and where its results may go.

    :param ae_title: called AE title that the workflow listens to.
    :param data_origins: calling AE titles it accepts; none for all.
    :param export_destinations: names of the sinks its tasks may use.
    :param quiet_seconds: how long nothing must arrive before a study is complete.
    :param grouping: what becomes one payload: a study (the default), each series, or all of a patient.
    :param late_images: what becomes of images that come after a study was complete.
    """

    ae_title: AeTitle
    data_origins: Annotated[list[AeTitle], _MANY] = Field(default_factory=list)
    export_destinations: Annotated[list[Name], _MANY] = Field(default_factory=list)
    quiet_seconds: Annotated[Number, Field(ge=0.1, le=86_400)] | None = None
    grouping: GroupingChoice | None = None
    late_images: LateImagesChoice | None = None


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

    input: Annotated[list[InputArtifactSpec], _MANY] = Field(default_factory=list)
    output: Annotated[list[OutputArtifactSpec], _MANY] = Field(default_factory=list)


class TaskDestination(_Model):
    """A task that may follow, and the conditions under which it does (all of them must hold)."""

    name: TaskId
    conditions: Annotated[list[Condition], _MANY] = Field(default_factory=list)


class ExportDestination(_Model):
    """A sink, by its name in the informatics gateway's list."""

    name: Name


class ResourcesSpec(_Model):
    """What a task may use."""

    cpu: Annotated[Number, Field(gt=0, le=1024)] | None = None
    memory: Memory | None = None
    shared_memory: Annotated[Memory | None, Field(alias="sharedMemory")] = None
    gpu: Annotated[Whole, Field(ge=0, le=64)] | None = None
    gpu_memory: Annotated[Memory | None, Field(alias="gpuMemory")] = None


class TaskSpec(_Model):
    """One task.

    :param timeout_minutes: -1 for the default, 0 for no limit.
    :param retries: how often it is tried again.
    :param retry_policy: kind of failure -> ``retry`` or ``fail``, in place of the default.
    :param for_each: runs once for each series of the study.
    :param on_failure: whether it runs although something before it failed.
    """

    id: TaskId
    type: TaskKind
    description: Description = ""
    args: dict[str, Any] = Field(default_factory=dict)
    artifacts: Artifacts = Field(default_factory=Artifacts)
    task_destinations: Annotated[list[TaskDestination], _MANY] = Field(default_factory=list)
    export_destinations: Annotated[list[ExportDestination], _MANY] = Field(default_factory=list)
    timeout_minutes: Annotated[Number, Field(ge=-1, le=525_600)] = -1.0
    retries: Annotated[Whole, Field(ge=0, le=100)] | None = None
    retry_delay: Annotated[Duration, Field(ge=0, le=86_400)] | None = None
    retry_policy: RetryPolicy = Field(default_factory=dict)
    for_each: ForEachChoice | None = None
    on_failure: OnFailureChoice = OnFailure.STOP
    priority: PriorityChoice | None = None
    resources: ResourcesSpec | None = None


class ParamSpec(_Model):
    """A value that whoever triggers a run may give, shown as a field of the form in the UI."""

    type: KindChoice = Kind.STRING
    default: Any = None
    title: Annotated[str, Field(max_length=200)] = ""
    description: Description = ""
    choices: Annotated[list[Any], Field(max_length=200)] = Field(default_factory=list)
    minimum: Number | None = None
    maximum: Number | None = None


class SelectSpec(_Model):
    """Which payloads a batch takes: those that meet everything it says."""

    ae_titles: Annotated[list[AeTitle], _MANY] = Field(default_factory=list)
    data_origins: Annotated[list[AeTitle], _MANY] = Field(default_factory=list)
    received_within: Annotated[Duration, Field(gt=0, le=3_650 * 86_400)] | None = None
    received_after: str | None = None
    received_before: str | None = None
    conditions: Annotated[list[Condition], _MANY] = Field(default_factory=list)
    study_instance_uids: Annotated[list[str], Field(max_length=10_000)] = Field(default_factory=list)
    include_processed: Boolean = False


class ScheduleSpec(_Model):
    """When a batch of stored payloads starts, which it takes, and how many at once."""

    cron: str
    timezone: str = "UTC"
    select: SelectSpec = Field(default_factory=SelectSpec)
    max_active: Annotated[Whole, Field(ge=1, le=1_000)] = 4
    limit: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    priority: PriorityChoice | None = None


_Days = Annotated[Whole, Field(ge=-1, le=36_500)]


class WorkflowSpec(_Model):
    """A workflow file; the first of its tasks is the root.

    :param predicate: conditions on the study, all of which must hold, or the workflow does not want it.
    :param params: values that whoever triggers a run may give: ``{{ context.params.<name> }}``.
    :param schedule: starts runs on payloads that are in the store.
    """

    name: Name
    version: Version
    description: Description = ""
    informatics_gateway: InformaticsGateway
    predicate: Annotated[list[Condition], _MANY] = Field(default_factory=list)
    priority: PriorityChoice | None = None
    params: Annotated[dict[str, ParamSpec], Field(max_length=100)] = Field(default_factory=dict)
    schedule: ScheduleSpec | None = None
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
        """SHA-256 of the file's text, line ends normalised, and of its defaults (of the fields, when made in code)."""
        return self._digest or hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def place(self) -> tuple[int, int]:
        """Line and column of its name in that file."""
        return self._place

    def read_from(
        self, source: str, text: str, place: tuple[int, int], defaults: Sequence[Defaults] = ()
    ) -> WorkflowSpec:
        """This spec, knowing the file it came from."""
        self._source, self._place = source, place
        self._digest = text_digest(text, defaults)
        return self
