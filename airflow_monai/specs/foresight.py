"""What can be known of a run before it begins: which tasks run whatever the others find, and which never do.

A condition over the study, the workflow and its parameters is decided; one over what a task leaves is open until that
task has ended. Everything is said under the proviso that the tasks which run end well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions.ast import And, Node, Or, templates
from airflow_monai.specs.conditions.evaluation import holds
from airflow_monai.specs.conditions.parser import parse
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.specs.plan import Edge, WorkflowPlan
from airflow_monai.specs.routing import seen_values


class Fate(str, Enum):
    """Whether a task runs, or a way is taken."""

    YES = "yes"
    OPEN = "open"
    NO = "no"


@dataclass(frozen=True, slots=True)
class EdgeView:
    """A way as far as it is known.

    :param verdict: whether its conditions hold; ``fate``: whether it is taken, which needs its source too.
    :param decided_by: tasks whose outcome decides, where that is open.
    :param values: path -> value in this study, of those that are known.
    :param error: why a condition cannot be evaluated; such a way is not taken.
    :param series: of a way from a task that runs for each series: for how many of how many it is taken for sure.
    """

    source: str
    target: str
    conditions: tuple[str, ...]
    verdict: Fate
    fate: Fate = Fate.OPEN
    decided_by: tuple[str, ...] = ()
    values: Mapping[str, str] | None = None
    error: str = ""
    series: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Foresight:
    """Of a workflow on a study.

    :param tasks: task id -> whether it runs, in the plan's order.
    """

    tasks: Mapping[str, Fate]
    edges: tuple[EdgeView, ...]


def foresee(plan: WorkflowPlan, context: ExecutionContext) -> Foresight:
    """What can be known of a run of this workflow.

    :param context: of the study; what it says of tasks is not asked for.
    """
    known: Mapping[str, Fate] = {}
    while True:
        found = _pass(plan, context, known)
        if found.tasks == known:
            return found
        known = found.tasks  # a condition may ask for a task that does not come before it, and never runs


def _pass(plan: WorkflowPlan, context: ExecutionContext, known: Mapping[str, Fate]) -> Foresight:
    """One walk along the graph, with what an earlier one found of all tasks."""
    tasks: dict[str, Fate] = {}
    edges: list[EdgeView] = []
    waiting = list(plan.tasks)
    while waiting:
        task = next(item for item in waiting if all(one in tasks for one in item.previous))  # a plan has no loops
        waiting.remove(task)
        ways = [edge.fate for edge in edges if edge.target == task.id]
        tasks[task.id] = _any(ways) if task.previous else Fate.YES
        edges += _leaving(plan, task.id, {**known, **tasks}, context)
    return Foresight({task.id: tasks[task.id] for task in plan.tasks}, tuple(edges))


def _leaving(plan: WorkflowPlan, source: str, tasks: Mapping[str, Fate], context: ExecutionContext) -> list[EdgeView]:
    """The ways from a task whose own fate is known."""
    each = plan.task(source).for_each is not None
    views = [
        _judge_each(edge, tasks, context) if each else _judge(edge, tasks, context)
        for edge in plan.edges
        if edge.source == source
    ]
    return [replace(view, fate=_all((tasks[source], view.verdict))) for view in views]


def _judge_each(edge: Edge, tasks: Mapping[str, Fate], context: ExecutionContext) -> EdgeView:
    """A way from a task that runs for each series: taken when it is for one of them."""
    tags = context.series_tags()
    views = [
        _judge(edge, tasks, replace(context, series_tags=lambda uid=uid: {uid: tags[uid]}))  # type: ignore[misc]
        for uid in tags
    ]
    if not views or not edge.conditions:
        return _judge(edge, tasks, context)
    verdict = _any(view.verdict for view in views)
    shown = next(view for view in views if view.verdict is verdict)
    return replace(shown, series=(sum(view.verdict is Fate.YES for view in views), len(views)))


def _judge(edge: Edge, tasks: Mapping[str, Fate], context: ExecutionContext) -> EdgeView:
    open_paths: dict[str, str] = {}

    def is_open(path: str) -> bool:
        parts = path.split(".")
        if parts[:2] != ["context", "executions"] or len(parts) < 3 or tasks.get(parts[2]) is Fate.NO:
            return False
        open_paths[path] = parts[2]
        return True

    verdict, error = Fate.YES, ""
    values: dict[str, str] = {}
    for condition in edge.conditions:
        try:
            found = _condition(parse(condition), context, is_open)
            values |= {path: text for path, text in seen_values(condition, context).items() if not is_open(path)}
        except ConditionError as problem:
            found, error = Fate.NO, error or str(problem)
        verdict = _all((verdict, found))
        if verdict is Fate.NO:
            break
    decided_by = tuple(dict.fromkeys(open_paths.values())) if verdict is Fate.OPEN else ()
    return EdgeView(edge.source, edge.target, edge.conditions, verdict, Fate.OPEN, decided_by, values, error)


def _condition(node: Node, resolve: Callable[[str], Any], is_open: Callable[[str], bool]) -> Fate:
    """Whether a condition holds, as far as it does not hang on an open path.

    :raises ConditionError: when it cannot be evaluated, however the open paths turn out.
    """
    if not isinstance(node, (And, Or)):
        waiting = [template.path for template in templates(node) if is_open(template.path)]
        if waiting:
            return Fate.OPEN
        return Fate.YES if holds(node, resolve) else Fate.NO
    deciding = Fate.NO if isinstance(node, And) else Fate.YES
    found = []
    for part in node.parts:
        try:
            fate = _condition(part, resolve, is_open)
        except ConditionError:
            if Fate.OPEN in found and deciding is Fate.YES:
                return Fate.OPEN  # it counts only where the open part does not decide before
            raise
        if fate is deciding:
            return fate
        found.append(fate)
    return Fate.OPEN if Fate.OPEN in found else found[-1]


def _all(fates: Iterable[Fate]) -> Fate:
    known = set(fates)
    return Fate.NO if Fate.NO in known else Fate.OPEN if Fate.OPEN in known else Fate.YES


def _any(fates: Iterable[Fate]) -> Fate:
    known = set(fates)
    return Fate.YES if Fate.YES in known else Fate.OPEN if Fate.OPEN in known else Fate.NO
