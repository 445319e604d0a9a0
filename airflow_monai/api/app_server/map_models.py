"""What the App Server API says of MAPs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from airflow_monai.maps.registrations import AskedState


class NewMap(BaseModel):
    """A MAP to register. What is left out is left to the MAP, or as it is registered already."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"image": "registry.example/lung-seg:1.0.0", "export_destinations": ["PACS"]}]},
    )
    image: str | None = Field(None, min_length=1, max_length=500, description="Reference of its image.")
    folder: str | None = Field(
        None, min_length=1, max_length=500, description="An unpacked MAP: a path below the site's folders of MAPs."
    )
    name: str | None = Field(None, max_length=100)
    version: str | None = Field(None, max_length=64)
    ae_title: str | None = Field(None, max_length=16, description="Studies that are sent there start it.")
    export_destinations: list[str] | None = Field(None, max_length=100)
    use_gpu: bool | None = None
    replace: bool = Field(False, description="Give one that is registered already these options.")
    pull: bool = Field(False, description="Have the engine get the image from its registry first.")

    @model_validator(mode="after")
    def _one_of_both(self) -> NewMap:
        if (self.image is None) == (self.folder is None):
            raise ValueError("give either an image or a folder")
        return self


class MapSummary(BaseModel):
    """A registered MAP in one line."""

    map: str = Field(examples=["lung-seg:1.0.0"])
    name: str = Field(examples=["lung-seg"])
    version: str = Field(examples=["1.0.0"])
    kind: str = Field(examples=["image"])
    digest: str = Field(examples=["sha256:3b0e…"], description="What is run, whatever the reference comes to mean.")
    ae_title: str = Field(examples=["LUNG-SEG"])
    export_destinations: list[str]
    use_gpu: bool
    workflow: str = Field(description="Id of its DAG.")
    registered: bool
    registered_at: datetime
    registered_by: str


class RegisteredNow(MapSummary):
    """What is registered now."""

    created_now: bool = Field(description="False: the same was registered already.")
    beside: list[str] = Field([], description="Other workflows that listen to its AE title.")


class Revision(BaseModel):
    """A line of a MAP's history."""

    revision: int
    registered: bool
    changed_at: datetime
    changed_by: str
    digest: str
    ae_title: str
    export_destinations: list[str]


class DescribedMap(MapSummary):
    """Everything that is known of a MAP."""

    image: str | None = Field(None, description="The reference by which it was registered; null for a folder.")
    repo_digest: str | None = None
    facts: dict[str, Any] = Field(description="Command, resources, models and the like, and what is doubtful of them.")
    app: dict[str, Any] = Field(description="Its app.json; values that may be secrets are not shown.")
    pkg: dict[str, Any] = Field(description="Its pkg.json.")
    history: list[Revision]


class MapPage(BaseModel):
    """Registered MAPs, by name and version."""

    maps: list[MapSummary]
    total: int
    offset: int
    limit: int


class RegistrationStatus(BaseModel):
    """How far a registration is that takes long."""

    id: str
    state: AskedState
    map: str | None = Field(default=None, description="What is registered now.")
    created_now: bool | None = None
    status: int | None = Field(default=None, description="The HTTP status that it failed with, and why:")
    detail: str | None = None
