"""A workflow as the checks look at it: tasks by id, their graph, and which of them this version runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from airflow_monai.specs.choices import TASK_TYPES
from airflow_monai.specs.findings import Location
from airflow_monai.specs.graph import Graph, reachable, reversed_graph
from airflow_monai.specs.model import TaskSpec, WorkflowSpec
from airflow_monai.specs.problems import nearest_word


class SpecView:
    """Look-ups over one spec; of tasks with the same id the first counts."""

    def __init__(self, spec: WorkflowSpec):
        self.spec = spec
        self._before: dict[str, set[str]] = {}

    @cached_property
    def ids(self) -> dict[str, str]:
        """Lower-case id -> id."""
        found: dict[str, str] = {}
        for task in self.spec.tasks:
            found.setdefault(task.id.lower(), task.id)
        return found

    @cached_property
    def tasks(self) -> dict[str, TaskSpec]:
        """Id -> task."""
        found: dict[str, TaskSpec] = {}
        for task in self.spec.tasks:
            found.setdefault(task.id, task)
        return found

    @cached_property
    def graph(self) -> Graph:
        """Id -> ids that may follow."""
        return {
            task.id: tuple(to.name for to in task.task_destinations if to.name in self.tasks)
            for task in self.tasks.values()
        }

    @cached_property
    def meant(self) -> Graph:
        """The graph, with a misspelled destination leading to the task that it most likely means.

        The misspelling is reported where it stands; what would only follow from it is not reported too.
        """
        return {
            task.id: tuple(name for to in task.task_destinations if (name := self._meant(to.name)))
            for task in self.tasks.values()
        }

    def _meant(self, name: str) -> str | None:
        return name if name in self.tasks else nearest_word(name, self.tasks)

    @cached_property
    def _backwards(self) -> Graph:
        return reversed_graph(self.meant)

    def before(self, task_id: str) -> set[str]:
        """Ids of all tasks that can come before one."""
        if task_id not in self._before:
            self._before[task_id] = reachable(self._backwards, *self._backwards[task_id])
        return self._before[task_id]

    def find(self, task_id: str) -> TaskSpec | None:
        """The task of an id written in any case."""
        known = self.ids.get(task_id.lower())
        return self.tasks[known] if known else None

    def is_supported(self, task: TaskSpec) -> bool:
        return task.type in TASK_TYPES

    def located(self) -> Iterator[tuple[Location, TaskSpec]]:
        """Every task with its place."""
        for index, task in enumerate(self.spec.tasks):
            yield ("tasks", index), task
