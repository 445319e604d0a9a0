"""Reads from the trial's database how its tasks are doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_monai.local.postgres import Cluster
from airflow_monai.specs.plan import WorkflowPlan

ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
WAITS_FOR_PERSON = "awaiting_input"
_TASKS = "SELECT task_id, map_index, run_id, state, start_date, end_date FROM task_instance"


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task instance as Airflow has it.

    :param seconds: how long it took; None when it did not run, or has not ended.
    """

    task_id: str
    map_index: int
    run_id: str
    state: str
    seconds: float | None = None

    @property
    def name(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


class Watcher:
    """What has become of the tasks of one run, and which news there are since the last look.

    :param plan: its tasks are the author's; others (edges, joins, series) are told of only when they fail.
    """

    def __init__(self, cluster: Cluster, plan: WorkflowPlan):
        self._cluster = cluster
        self._own = {task.id for task in plan.tasks}
        self._told: dict[str, str] = {}

    def states(self) -> list[TaskState]:
        """All task instances, in the order in which they began."""
        rows = self._cluster.execute(f"{_TASKS} ORDER BY start_date NULLS LAST, task_id, map_index")
        return [
            TaskState(task_id, map_index, run_id, state or "", _seconds(began, ended))
            for task_id, map_index, run_id, state, began, ended in rows
        ]

    def news(self) -> Iterator[TaskState]:
        """Those of interest that have ended, or wait for a person, since the last call."""
        for item in self.states():
            if item.state not in ENDED and item.state != WAITS_FOR_PERSON:
                self._told.pop(item.name, None)
                continue
            is_own = item.task_id in self._own or item.state == "failed"
            if is_own and self._told.get(item.name) != item.state:
                self._told[item.name] = item.state
                yield item

    def own(self, states: list[TaskState], order: Callable[[str], int]) -> list[TaskState]:
        """The author's tasks among some, in the order of the file; what failed beside them too."""
        found = [item for item in states if item.task_id in self._own or item.state == "failed"]
        return sorted(found, key=lambda item: (order(item.task_id), item.map_index))

    def question(self, task: TaskState) -> Mapping[str, Any]:
        """Subject, text, options and form of what a review asks."""
        statement = (
            "SELECT h.subject, h.body, h.options, h.params FROM hitl_detail h JOIN task_instance t ON h.ti_id = t.id "
            f"WHERE t.task_id = '{_quoted(task.task_id)}' AND t.map_index = {int(task.map_index)}"
        )
        ((subject, body, options, params),) = self._cluster.execute(statement)
        return {"subject": subject, "body": body or "", "options": list(options or ()), "params": params or {}}


def _seconds(began: datetime | None, ended: datetime | None) -> float | None:
    return max(0.0, (ended - began).total_seconds()) if began and ended else None


def _quoted(text: str) -> str:
    return text.replace("'", "''")
