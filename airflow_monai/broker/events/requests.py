"""What asks for work: workflow requests, and artifacts that came back from an application elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, field_serializer, model_validator

from airflow_monai.broker.events.base import Event, Guid, Id, Items, NamedOrNumbered

Bucket = Annotated[str, Field(min_length=3, max_length=63)]
Path = Annotated[str, Field(min_length=1, max_length=1024)]
_AE_TITLE = 16  # PS3.5 section 6.2, VR AE


def _guid_of(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"transaction|{text}"))


class DataService(NamedOrNumbered):
    """How data came in."""

    UNKNOWN = "Unknown"
    DIMSE = "DIMSE"
    DICOMWEB = "DicomWeb"
    FHIR = "FHIR"
    HL7 = "HL7"
    ACR = "ACR"


class DataOrigin(Event):
    """Where data came from. DIMSE: calling and called AE title; ACR: the transaction's id; else hosts.

    Published receivers take names of at most 15 characters; an AE title may have 16, a host more.
    """

    spellings: ClassVar[Mapping[str, str]] = {"dataService": "data_service", "artifactType": "artifact_type"}

    data_service: DataService = Field(default=DataService.UNKNOWN, serialization_alias="dataService")
    source: Id
    destination: Id

    @field_serializer("data_service")
    def _numbered(self, value: DataService) -> int:
        return value.number

    @model_validator(mode="after")
    def _short(self) -> Self:
        most = _AE_TITLE if self.data_service is DataService.DIMSE else 250
        for name in ("source", "destination"):
            text = getattr(self, name).strip()
            if not text or len(text) > most:
                raise ValueError(f"{name} must have 1 to {most} characters")
        return self


class StoredFile(Event):
    """A file of a payload."""

    path: Path


class WorkflowRequestEvent(Event):
    """A payload is in the bucket, and workflows are wanted on it.

    :param workflows: their ids; none: those whose routing wants it.
    :param trigger: who sent it and to whom; older messages have AE titles of these.
    """

    spellings: ClassVar[Mapping[str, str]] = {
        "calling_ae_title": "calling_aetitle",
        "called_ae_title": "called_aetitle",
    }

    payload_id: Guid
    correlation_id: Guid
    bucket: Bucket
    timestamp: datetime
    workflows: Items[Id] = ()
    file_count: int = Field(default=0, ge=0)
    trigger: DataOrigin | None = None
    data_origins: Items[DataOrigin] = ()
    calling_aetitle: str | None = None
    called_aetitle: str | None = None
    payload: Items[StoredFile] = ()
    workflow_instance_id: str | None = None
    task_id: str | None = None

    @model_validator(mode="after")
    def _has_trigger(self) -> Self:
        if self.trigger is None:
            if not (self.calling_aetitle and self.called_aetitle):
                raise ValueError("trigger is missing, and so are calling_aetitle and called_aetitle")
            origin = DataOrigin(
                data_service=DataService.DIMSE, source=self.calling_aetitle, destination=self.called_aetitle
            )
            object.__setattr__(self, "trigger", origin)
        return self

    @property
    def origin(self) -> DataOrigin:
        """The trigger, which every request has once it is read."""
        assert self.trigger is not None
        return self.trigger

    @property
    def is_of_a_task(self) -> bool:
        """Whether it brings results of a task; those come as artifacts received, so this one is to be ignored."""
        return bool(self.workflow_instance_id and self.task_id)


class WorkflowRequestDraft(Event):
    """``workflow.request`` of the first draft: no bucket, no AE titles; the files are named one by one.

    :param payload_id: its transaction id; one that is no GUID stands for the same one always.
    :param files: paths in the site's bucket, or ``s3://bucket/path``.
    """

    spellings: ClassVar[Mapping[str, str]] = {"transaction_id": "payload_id"}

    payload_id: Annotated[Id, AfterValidator(_guid_of)]
    correlation_id: Id
    files: Items[Path] = Field(min_length=1)
    workflows: Items[Id] = Field(min_length=1)


class ReceivedArtifact(Event):
    """A file that an application elsewhere made."""

    type: Annotated[str | int, Field(serialization_alias="Type")]
    path: Annotated[Path, Field(serialization_alias="Path")]


class ArtifactsReceivedEvent(Event):
    """Results of a task have come back, and lie in the bucket."""

    payload_id: Guid
    correlation_id: Guid
    bucket: Bucket
    workflow_instance_id: Id
    task_id: Id
    artifacts: Items[ReceivedArtifact] = Field(min_length=1)
