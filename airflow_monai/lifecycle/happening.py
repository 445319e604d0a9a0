"""What can happen to a workflow instance, and how it is told apart from everything else that happens."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from airflow_monai.types import TaskStatus

_NAMESPACE = uuid.UUID("0d0c9c0a-5b0d-5c3a-9a55-6a1e5d0f1c77")


class What(str, Enum):
    """Every kind of event there is."""

    WORKFLOW_STARTED = "workflow.started"
    TASK_STARTED = "task.started"
    TASK_UPDATED = "task.updated"
    TASK_COMPLETED = "task.completed"
    WORKFLOW_COMPLETED = "workflow.completed"

    @property
    def is_of_task(self) -> bool:
        return self.value.startswith("task.")


@dataclass(frozen=True, slots=True)
class Happening:
    """An event. Nothing of a patient is in it.

    :param id: a UUID, the same whoever saw it happen and however often.
    :param at: when; UTC, ISO 8601. Where nobody saw it, when Airflow says that it was.
    :param run_began: tells a run that was started again from the one before.
    :param state: Airflow's, of the run or the task.
    :param started: and ``ended``: of the workflow instance or the task; empty for not (yet).
    :param first_try: number of the try that began this going of the task; ``try_number``: the one that this is about.
    :param execution_id: the same for every try of that going.
    """

    id: str
    what: What
    at: str
    instance_id: str
    dag_id: str
    run_id: str
    run_began: str
    workflow: str
    payload_id: str
    correlation_id: str
    state: str
    status: TaskStatus
    started: str = ""
    ended: str = ""
    task_id: str = ""
    map_index: int = -1
    first_try: int = 0
    try_number: int = 0
    execution_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        data = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        return {**data, "what": self.what.value, "status": self.status.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Happening:
        return cls(**{**data, "what": What(data["what"]), "status": TaskStatus(data["status"])})


def happening_id(instance_id: str, what: What, *marks: object) -> str:
    """The id of what happened: it follows from what it is, so that two who saw it give it the same one."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join((instance_id, what.value, *map(str, marks)))))


_STATUS = {
    "success": TaskStatus.SUCCEEDED,
    "failed": TaskStatus.FAILED,
    "skipped": TaskStatus.CANCELED,
    "upstream_failed": TaskStatus.CANCELED,
    "removed": TaskStatus.CANCELED,
    "canceled": TaskStatus.CANCELED,
}


def status_of(state: str, *, cancelled: bool = False) -> TaskStatus:
    """What a state of Airflow's means to others."""
    return TaskStatus.CANCELED if cancelled else _STATUS.get(state, TaskStatus.ACCEPTED)
