"""What was seen of Airflow: DAG runs and task instances as they were at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from airflow_monai.errors import MonaiError
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.types import FailureKind

ENDED_RUN = frozenset({"success", "failed"})
ENDED_TASK = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
BEGUN_TASK = frozenset({"running", "deferred", "awaiting_input", "restarting", "up_for_retry", "up_for_reschedule"})


class AirflowAway(MonaiError):
    """Airflow does not tell what has changed; it is asked again."""

    failure = FailureKind.CONNECTION


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A DAG run on a payload.

    :param workflow: its name.
    :param state: ``queued``, ``running``, ``success`` or ``failed``.
    :param created: and ``started``, ``ended``: UTC, as text that sorts by time; empty for not yet.
    :param cancelled: a person ended it.
    """

    dag_id: str
    run_id: str
    workflow: str
    payload_id: str
    state: str
    created: str = ""
    started: str = ""
    ended: str = ""
    cancelled: bool = False

    @property
    def instance_id(self) -> str:
        return instance_id_of(self.dag_id, self.run_id)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_RUN

    @property
    def began(self) -> str:
        """Tells this going of the run from those before it was cleared. Of one that ended before it began, too."""
        return self.started or self.ended or self.created


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task instance.

    :param state: Airflow's; empty for none yet.
    :param try_number: grows with every try, also when a person clears the task; 0 for one that takes no process.
    :param operator: name of its operator's class.
    :param says_no: it ended well, and its verdict is no: a person has rejected a result.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str
    try_number: int
    started: str = ""
    ended: str = ""
    operator: str = ""
    says_no: bool = False

    @property
    def instance_id(self) -> str:
        return instance_id_of(self.dag_id, self.run_id)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_TASK

    @property
    def has_begun(self) -> bool:
        return self.state in BEGUN_TASK


@dataclass(frozen=True, slots=True)
class ChangedRuns:
    """
    :param now: the time there when it was looked, by which the next look may go on.
    """

    runs: tuple[RunSeen, ...]
    now: datetime


class Watched(Protocol):
    """An Airflow, as far as it is ours. Each method raises :class:`AirflowAway` when it does not answer."""

    def runs_changed(self, since: datetime, until: datetime) -> ChangedRuns:
        """Runs whose last change was between these times."""

    def tasks_changed(self, since: datetime, until: datetime) -> Iterable[TaskSeen]:
        """Task instances whose last change was between these times."""

    def tasks_of(self, dag_id: str, run_id: str) -> Iterable[TaskSeen]:
        """All task instances of a run; none where there is no such run (any more)."""

    def run(self, dag_id: str, run_id: str) -> RunSeen | None:
        """A run as it is now; None where there is none, or it is none of ours."""
