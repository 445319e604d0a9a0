"""What runs workflows, by one interface: check a workflow, launch it, ask how it is, end it.

A job has a name that its caller chooses and an engine keeps, so that launching it again after a crash starts nothing a
second time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class JobState(str, Enum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class Job:
    """One execution of a workflow.

    :param workflow: what the engine knows the workflow by.
    :param name: of this execution; another one of the same name is the same.
    :param payload_id: what it works on.
    :param parameters: of the workflow, where it takes some.
    :param note: for people, shown with it where the engine shows such.
    """

    workflow: str
    name: str
    payload_id: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """
    :param message: why it failed, free of patient data; empty otherwise.
    """

    state: JobState
    message: str = ""


class Engine(ABC):
    """Runs workflows. Each method raises :class:`airflow_monai.errors.MonaiError` when the engine is out of reach."""

    @abstractmethod
    def validate(self, workflow: str) -> tuple[str, ...]:
        """What stands in the way of launching a workflow; nothing when it can be."""

    @abstractmethod
    def launch(self, job: Job) -> bool:
        """Make sure that the job exists; False when it did already."""

    @abstractmethod
    def status(self, job: Job) -> JobStatus | None:
        """How a job is; None when there is none such."""

    @abstractmethod
    def cancel(self, job: Job) -> bool:
        """End a job; False when there is none such, or it has ended."""
