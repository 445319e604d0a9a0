"""The modules of a workflow: which there are, what comes before what, and which of them a run has to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from airflow_monai.mip.model import ALL, Decision
from airflow_monai.specs.plan import TaskPlan, TaskType, WorkflowPlan


@dataclass(frozen=True, slots=True)
class Module:
    """A task of the workflow.

    :param version: of the MAP that it runs, else of the workflow.
    :param needs: modules right before it.
    :param is_repeated: it runs once for each series; its results are taken over all or none.
    """

    name: str
    version: str
    needs: frozenset[str]
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Modules:
    """All modules of a workflow, in its order."""

    by_name: Mapping[str, Module]

    @classmethod
    def of(cls, plan: WorkflowPlan) -> Modules:
        """Tasks that only divide (routers) are no modules: what is before them is before what comes after."""
        tasks = {task.id: task for task in plan.tasks}
        before: dict[str, set[str]] = {task_id: set() for task_id in tasks}
        for edge in plan.edges:
            before[edge.target].add(edge.source)

        def needs(task_id: str, seen: set[str]) -> set[str]:
            found: set[str] = set()
            for source in before[task_id] - seen:
                seen.add(source)
                found |= {source} if _is_module(tasks[source]) else needs(source, seen)
            return found

        return cls(
            {
                task.id: Module(
                    task.id, _version(plan, task), frozenset(needs(task.id, set())), task.for_each is not None
                )
                for task in plan.tasks
                if _is_module(task)
            }
        )

    def unknown(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name != ALL and name not in self.by_name]

    def wanted(self, names: Iterable[str]) -> list[str]:
        """The modules that these names mean, in the workflow's order."""
        named = set(names)
        return [name for name in self.by_name if ALL in named or name in named]

    def decide(self, names: Iterable[str], *, force: bool, exists: Callable[[Module], bool]) -> dict[str, Decision]:
        """What becomes of each module when these are asked for.

        One that exists is taken over, and what was before it does not matter then. One that has to run needs what is
        before it. Where that runs anew, what was made of its old result is made anew too.

        :param force: those that were named run even where they exist.
        """
        named = set(self.wanted(names))
        decided: dict[str, Decision] = {}

        def settle(name: str) -> None:
            if name in decided:
                return
            module = self.by_name[name]
            reuse = not (force and name in named) and exists(module)
            decided[name] = Decision.REUSE if reuse else Decision.RUN
            if not reuse:
                for needed in module.needs:
                    settle(needed)

        for name in named:
            settle(name)
        while stale := [name for name in decided if decided[name] is Decision.REUSE and self._is_stale(name, decided)]:
            for name in stale:
                decided[name] = Decision.RUN
                for needed in self.by_name[name].needs:
                    settle(needed)
        return {name: decided.get(name, Decision.SKIP) for name in self.by_name}

    def _is_stale(self, name: str, decided: Mapping[str, Decision]) -> bool:
        """Whether something before it, near or far, runs."""
        waiting, seen = list(self.by_name[name].needs), set()
        while waiting:
            before = waiting.pop()
            if decided.get(before) is Decision.RUN:
                return True
            if before not in seen:
                seen.add(before)
                waiting += self.by_name[before].needs
        return False


def _is_module(task: TaskPlan) -> bool:
    return task.type is not TaskType.ROUTER


def _version(plan: WorkflowPlan, task: TaskPlan) -> str:
    """The tag or digest of the MAP or the image that it runs, else the workflow's version."""
    reference = str(task.args.get("map") or "") if task.type is TaskType.MAP else ""
    reference = reference or str(task.args.get("container_image") or "")
    _, at, digest = reference.partition("@")
    if at:
        return digest
    tag = reference.rpartition("/")[2].partition(":")[2]
    return tag or plan.version
