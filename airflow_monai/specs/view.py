"""A workflow as the checks look at it: tasks by id, their graph, and which of them this version runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from airflow_monai.specs.choices import TASK_TYPES
from airflow_monai.specs.doubts import INVENTED, Doubts
from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.graph import Graph, reachable, reversed_graph
from airflow_monai.specs.model import TaskSpec, WorkflowSpec
from airflow_monai.specs.problems import nearest_word

NO_DOUBTS = Doubts()


class SpecView:
    """Look-ups over one spec; of tasks with the same id the first counts.

    :param doubts: what of the spec is not the author's.
    """

    def __init__(self, spec: WorkflowSpec, doubts: Doubts = NO_DOUBTS):
        self.spec = spec
        self.doubts = doubts
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
    def is_graph_sure(self) -> bool:
        """Whether the ways between the tasks are the author's: else nothing follows from a way that lacks."""
        if len(self.ids) < len(self.spec.tasks):
            return False
        if not self.doubts.places:
            return True
        return not any(self._has_lost_ways(at, task) for at, task in self.located())

    def _has_lost_ways(self, at: Location, task: TaskSpec) -> bool:
        lost = any(self.doubts.lost(*at, name) for name in ("id", "task_destinations"))
        return lost or any(target.name.startswith(INVENTED) for target in task.task_destinations)

    def suggestion(self, name: str) -> str | None:
        """The hint for an id that no task has; None where it may be that of a task whose id was refused."""
        invented = self.doubts.invented
        real = [task for task in self.tasks if task not in invented]
        near = nearest_word(name, [*(text for text in invented.values() if text), *real])
        if near in real:
            return f"did you mean {near!r}?"
        if near is not None or not all(invented.values()):
            return None
        return f"tasks here: {', '.join(real[:20])}"

    def as_written(self, finding: Finding) -> Finding:
        """The finding with the texts of the file in place of invented ids."""
        message, hint = finding.message, finding.hint
        for index, task in enumerate(self.spec.tasks) if self.doubts.invented else ():
            written = self.doubts.invented.get(task.id)
            if written is None or task.id not in message + hint:
                continue
            shown = repr(written[:60]) if written else f"number {index + 1}"
            message = message.replace(repr(task.id), shown).replace(task.id, written[:60] or shown)
            hint = hint.replace(task.id, written[:60] or "<id>")
        return replace(finding, message=message, hint=hint)

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
