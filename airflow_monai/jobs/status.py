"""How a job stands, from what Airflow says of its run and of the task that runs the MAP."""

from __future__ import annotations

from enum import Enum

WAITING_STATES = frozenset({"", "scheduled", "queued", "up_for_reschedule"})
"""Of the MAP's task while the job still waits: for a place, or for a card."""


class JobStatus(str, Enum):
    """How a job stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def has_ended(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


def status_of(run_state: str, task_state: str, *, cancelled: bool = False) -> JobStatus:
    """
    :param run_state: of the DAG run.
    :param task_state: of the MAP's task; empty where it has none yet.
    :param cancelled: whether somebody cancelled the run.
    """
    if run_state == "success":
        return JobStatus.SUCCEEDED
    if run_state == "failed":
        return JobStatus.CANCELLED if cancelled else JobStatus.FAILED
    waits = run_state != "running" or task_state in WAITING_STATES
    return JobStatus.QUEUED if waits else JobStatus.RUNNING
