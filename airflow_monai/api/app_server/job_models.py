"""What the App Server API says of jobs."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from airflow_monai.jobs.requests import Priority
from airflow_monai.jobs.status import JobStatus

JOB_ID = "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11"
DATASET_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


class NewJob(BaseModel):
    """What to run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"map": "lung-seg:1.0.0", "dataset": DATASET_ID, "priority": "routine"}]},
    )
    map: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="`name:version` of a registered MAP. Without it: one job for each MAP that the dataset is "
        "associated with.",
    )
    dataset: str = Field(min_length=1, max_length=100, description="Id of the dataset, or of a received payload.")
    priority: Priority = Field(Priority.ROUTINE, description="Who waits behind whom for a place in the queue.")


class Progress(BaseModel):
    """How far the application says it is."""

    percent: float | None = None
    stage: str | None = None
    at: str | None = Field(None, description="When it said so.")


class Requested(BaseModel):
    """What the MAP's manifest asks for, and the queue that it waits in for that."""

    cpu: float
    memory_bytes: int
    shared_memory_bytes: int
    gpu: float
    gpu_memory_bytes: int
    pool: str | None = None
    pool_slots: int | None = None


class Used(BaseModel):
    """What was measured; what nobody measured is null."""

    seconds: float | None = None
    queue_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    exit_code: int | None = None
    runner: str | None = None


class Resources(BaseModel):
    requested: Requested | None = None
    used: Used | None = None


class Outputs(BaseModel):
    """What there is to be fetched of a job."""

    files: int = Field(default=0, description="Result files.")
    available: bool = False
    finalized_at: datetime | None = None
    until: datetime | None = Field(default=None, description="When the outputs of a finalized job go, or went.")


class JobSummary(BaseModel):
    """A job in one line."""

    id: str = Field(examples=[JOB_ID], description="Also the id of its workflow instance.")
    map: str = Field(examples=["lung-seg:1.0.0"])
    dataset: str = Field(examples=[DATASET_ID])
    status: JobStatus
    priority: Priority
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    created_by: str = ""


class Job(JobSummary):
    """A job."""

    reason: str | None = Field(None, description="Why it waits, or ended as it did. Free of patient data.")
    map_digest: str | None = Field(None, examples=["sha256:3b0e…"], description="What was run, or is going to be.")
    queue_position: int | None = Field(None, description="Tasks before it in its queue; null when it does not wait.")
    progress: Progress | None = None
    resources: Resources = Resources()
    outputs: Outputs = Outputs()
    workflow: str = Field("", description="Id of its DAG.")
    run: str = Field("", description="Id of its DAG run.")


class JobPage(BaseModel):
    """Some of the jobs, the newest first; those that have no DAG run come before all others."""

    jobs: list[JobSummary]
    total: int = Field(description="How many there are on all pages.")
    offset: int
    limit: int


class JobsStarted(BaseModel):
    """The jobs of one request; the same for the same Idempotency-Key."""

    jobs: list[JobSummary]


class Finalized(BaseModel):
    """A finalized job."""

    id: str = Field(examples=[JOB_ID])
    finalized_at: datetime
    until: datetime = Field(description="When its outputs go: until then they can be fetched.")


class ResultFile(BaseModel):
    """A file that the job made."""

    number: int = Field(description="Of the file: results/{number} fetches it.")
    name: str = Field(examples=["seg.dcm"])
    size: int = Field(description="In bytes.")


class ResultList(BaseModel):
    files: list[ResultFile]
    total: int
