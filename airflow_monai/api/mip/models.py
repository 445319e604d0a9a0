"""What the job server takes and answers. Times are UTC, ISO 8601."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from airflow_monai.api.common.wording import without_places
from airflow_monai.mip.model import NAME, Result, Status

HIDDEN = "********"
"""In place of a key that came with a run, and of what the caller may not know."""
JobName = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Word = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]


class RunPayload(BaseModel):
    """What to run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"job": "alpha", "modules": ["map_crop"], "map": "WY_CO_Peach", "force_rerun": False}]
        },
    )

    job: JobName = Field(description="The space of results; made at its first run.", examples=["alpha"])
    modules: Annotated[list[str], Field(min_length=1, max_length=1000)] = Field(
        description="Modules to run, or ALL.", examples=[["map_crop"]]
    )
    map: Annotated[str, StringConstraints(min_length=1, max_length=250)] = Field(
        description="Name of the dataset.", examples=["WY_CO_Peach"]
    )
    force_rerun: bool = Field(False, description="Run the named modules also where they have results.")
    openai_key: SecretStr = Field(
        SecretStr(""), max_length=4096, description="Reaches the modules' environment only; never shown again."
    )
    extra_args: dict[str, Annotated[list[Word], Field(max_length=256)]] = Field(
        default_factory=dict,
        description="Module -> words that come last on its command line, where the site allows it.",
        examples=[{"map_crop": ["--tile", "512"]}],
    )


class SeenPayload(BaseModel):
    """What was to be run, as answers show it."""

    job: str = Field(examples=["alpha"])
    modules: list[str] = Field(examples=[["map_crop"]])
    map: str = Field(description="Stars for those who may not read data.", examples=["WY_CO_Peach"])
    force_rerun: bool
    openai_key: str = Field(description="Empty, or stars where one came with the run.", examples=["********"])
    extra_args: dict[str, list[str]] = {}


class RunStatus(BaseModel):
    """How far a run is."""

    status: Status = Field(examples=["running"])
    run_id: str = Field(examples=["alpha-1"])
    payload: SeenPayload
    start_time: str | None = Field(None, examples=["2026-03-02T09:14:05.311+00:00"])
    stop_time: str | None = None
    log: str | None = Field(None, description="A line for each module, when the run has ended.")


class JobStatus(BaseModel):
    """How far a job is, by its last run."""

    status: Status = Field(examples=["passed"])
    job: str = Field(examples=["alpha"])
    modules: list[str] = Field(description="Those that have run in it.", examples=[["map_crop"]])
    start_time: str | None = None
    stop_time: str | None = None
    log: str | None = None
    force_rerun: bool


class ModuleStatus(BaseModel):
    """How far a module of a job is, by its last run."""

    status: Status = Field(examples=["passed"])
    job: str = Field(examples=["alpha"])
    module: str = Field(examples=["map_crop"])
    start_time: str | None = None
    stop_time: str | None = None
    log: str | None = Field(None, description="The end of its log, when it has ended, for those who may read data.")
    exception: str | None = Field(None, description="Why it failed.")

    @classmethod
    def of(cls, job: str, result: Result, log: str | None) -> ModuleStatus:
        return cls(
            status=result.status,
            job=job,
            module=result.module,
            start_time=result.start_time,
            stop_time=result.stop_time,
            log=log,
            exception=without_places(result.error) or None,
        )


class ModuleDescription(BaseModel):
    """A module that there is."""

    module_name: str = Field(examples=["map_crop"])
    version: str = Field(examples=["1.2.0"])
