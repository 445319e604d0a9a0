"""Checks of tasks that run once for each series, and of tasks that go on after a failure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions.ast import templates
from airflow_monai.specs.conditions.parser import parse
from airflow_monai.specs.context import QUANTIFIERS
from airflow_monai.specs.findings import Finding, Location, warning
from airflow_monai.specs.model import TaskSpec
from airflow_monai.specs.plan import Grouping, OnFailure
from airflow_monai.specs.regions import Region, regions_of, returns
from airflow_monai.specs.task_types import TASK_TYPE_SPECS
from airflow_monai.specs.templates import TemplateError, leaves, parse_artifact, paths_of
from airflow_monai.specs.view import SpecView

GRAPH_LIMIT = 2_000
"""Tasks of a workflow whose regions are looked at; no person writes more."""


def regions(view: SpecView) -> Iterator[Finding]:
    """What is wrong with ``for_each`` and ``on_failure``, and with what refers to tasks that run for each series."""
    found = _regions(view)
    yield from _failures(view)
    if any(task.for_each for task in view.spec.tasks):
        yield from _pointless(view)
        yield from _comebacks(view, found)
        yield from _same_files(view)
    for at, task in view.located():
        yield from _references(view, at, task, found)


def _ways(view: SpecView) -> list[tuple[str, str]]:
    return [(source, target) for source, targets in view.graph.items() for target in targets]


def _regions(view: SpecView) -> dict[str, Region]:
    """Id of a task -> its region."""
    mapped = [task.id for task in view.tasks.values() if task.for_each]
    if not mapped or len(view.tasks) > GRAPH_LIMIT:
        return {}
    return {task: region for region in regions_of(mapped, _ways(view)) for task in region.tasks}


def _pointless(view: SpecView) -> Iterator[Finding]:
    if view.spec.informatics_gateway.grouping is not Grouping.SERIES:
        return
    for at, task in view.located():
        if task.for_each:
            message = f"task {task.id!r} runs once for each series, and with grouping: series there is only one"
            yield warning((*at, "for_each"), "pointless-for-each", message, "leave out for_each, or group by study")


def _comebacks(view: SpecView, found: dict[str, Region]) -> Iterator[Finding]:
    """Ways that leave a region and come back: the task there would run for each series and after all of them."""
    if not view.is_graph_sure:
        return
    ways = _ways(view)
    for region in dict.fromkeys(found.values()):
        for path in returns(region, ways):
            shown = " -> ".join(path if len(path) <= 12 else (*path[:6], "...", *path[-5:]))
            message = f"the way {shown} leaves tasks that follow each other for each series, and comes back to them"
            hint = f"task {path[-1]!r} cannot be after all series and with one of them: take one of its ways away"
            yield Finding(_place_of_way(view, path[-2], path[-1]), "region-reentered", message, hint)


def _place_of_way(view: SpecView, source: str, target: str) -> Location:
    index = next(number for number, task in enumerate(view.spec.tasks) if task.id == source)
    names = [item.name for item in view.spec.tasks[index].task_destinations]
    return ("tasks", index, "task_destinations", names.index(target), "name")


def _failures(view: SpecView) -> Iterator[Finding]:
    """``on_failure: continue`` where there is never more than one outcome before the task."""
    if not view.is_graph_sure:
        return
    before: dict[str, list[TaskSpec]] = {}
    for source, target in _ways(view):
        before.setdefault(target, []).append(view.tasks[source])
    for at, task in view.located():
        previous = before.get(task.id, [])
        leaves_region = any(source.for_each and not task.for_each for source in previous)
        if task.on_failure is OnFailure.CONTINUE and len(previous) < 2 and not leaves_region:
            which = f"only task {previous[0].id!r} comes" if previous else "no task comes"
            message = f"task {task.id!r}: on_failure: continue has no effect, since {which} before it"
            hint = "a task goes on with what has ended well; when its only predecessor fails, nothing has"
            yield warning((*at, "on_failure"), "pointless-on-failure", message, hint)


def _same_files(view: SpecView) -> Iterator[Finding]:
    """Exports for each series of what there is only once."""
    for at, task in view.located():
        kind = next((spec for kind, spec in TASK_TYPE_SPECS.items() if kind.value == task.type), None)
        if not task.for_each or kind is None or not kind.uses_destinations:
            continue
        for index, item in enumerate(task.artifacts.input):
            source = _source(view, item.value)
            if source is not None and not source.for_each:
                message = f"task {task.id!r} would export the same files of task {source.id!r} once for each series"
                hint = f"give {source.id!r} a for_each too, or leave it out here"
                yield warning((*at, "artifacts", "input", index, "value"), "same-for-each", message, hint)


def _source(view: SpecView, value: str) -> TaskSpec | None:
    try:
        reference = parse_artifact(value)
    except TemplateError:
        return None
    return view.find(reference.task) if reference.task else None


def _references(view: SpecView, at: Location, task: TaskSpec, found: dict[str, Region]) -> Iterator[Finding]:
    """Conditions and arguments that ask for what tasks did."""
    check = partial(_reference, view, task, found)
    for number, target in enumerate(task.task_destinations):
        for index, text in enumerate(target.conditions):
            place = (*at, "task_destinations", number, "conditions", index)
            for path, offset in _condition_paths(text):
                yield from check(place, path, offset)
    for name, value in task.args.items() if view.is_supported(task) else ():
        for text in leaves(value):
            for path in paths_of(text):
                yield from check((*at, "args", name), path, 0)


def _condition_paths(text: str) -> list[tuple[str, int]]:
    try:
        return [(template.path, template.column - 1) for template in templates(parse(text))] if text.strip() else []
    except ConditionError:
        return []  # reported as such


def _reference(
    view: SpecView, task: TaskSpec, found: dict[str, Region], at: Location, path: str, offset: int
) -> Iterator[Finding]:
    parts = path.split(".")
    if parts[:2] != ["context", "executions"] or len(parts) < 4:
        return
    source = view.find(parts[2])
    if source is None:
        return
    rest = ".".join(parts[4 if parts[3] in QUANTIFIERS else 3 :])
    plain, quantified = f"context.executions.{parts[2]}.{rest}"[:200], f"context.executions.{parts[2]}.any.{rest}"[:200]
    if parts[3] in QUANTIFIERS:
        if not source.for_each:
            message = f"task {source.id!r} runs once, so that there is nothing to choose with {parts[3]!r}"
            yield Finding(at, "not-for-each", message, f"write {plain}", offset=offset)
        elif task.id in found and found[task.id] is found.get(source.id):
            message = f"task {task.id!r} follows {source.id!r} series by series: the other series may not have ended"
            if task is source:
                message = f"task {task.id!r} knows its own series only: the others may not have ended"
            yield Finding(at, "other-series", message, f"write {plain}, which is of the same series", offset=offset)
    elif source.for_each and not task.for_each:
        message = f"task {source.id!r} runs once for each series; which of them is meant?"
        hint = f"write {quantified} (or .all.) to ask for any or all of them"
        yield Finding(at, "needs-any-or-all", message, hint, offset=offset)
