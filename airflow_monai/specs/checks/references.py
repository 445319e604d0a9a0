"""Checks of what conditions, arguments and artifact values refer to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from airflow_monai.errors import ConditionError
from airflow_monai.specs.checks.attributes import attribute_of, names_attribute
from airflow_monai.specs.conditions.ast import Comparison, Template, Text, comparisons, templates
from airflow_monai.specs.conditions.parser import parse
from airflow_monai.specs.conditions.values import decimal_of
from airflow_monai.specs.context import INPUT_PATHS, is_known_path
from airflow_monai.specs.doubts import INVENTED
from airflow_monai.specs.findings import Finding, Location, warning
from airflow_monai.specs.known_paths import better_path, is_published_path
from airflow_monai.specs.model import TaskSpec
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.problems import Severity, nearest
from airflow_monai.specs.task_types import TASK_TYPE_SPECS
from airflow_monai.specs.templates import (
    MAX_TEXT,
    ArtifactReference,
    ArtifactSource,
    TemplateError,
    leaves,
    parse_artifact,
    paths_of,
    placed_paths,
    unclosed,
)
from airflow_monai.specs.view import SpecView
from airflow_monai.types import TaskStatus

_STATUS = re.compile(r"context\.executions\.[^.]+\.((any|all)\.)?status")
_STATUSES = frozenset(status.value.lower() for status in TaskStatus)
_ENDS = tuple(
    status.value for status in (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.PARTIAL_FAIL, TaskStatus.CANCELED)
)


_EXAMPLE = "{{ context.executions.<task>.result.<key> }} > '500' AND {{ context.workflow.name }} == 'ct'"


def conditions(view: SpecView) -> Iterator[Finding]:
    """Conditions that cannot be parsed, and paths that can never have a value."""
    for index, text in enumerate(view.spec.predicate):
        yield from _condition(view, ("predicate", index), text, set())
    for index, text in enumerate(view.spec.schedule.select.conditions if view.spec.schedule else ()):
        yield from _condition(view, ("schedule", "select", "conditions", index), text, set())
    for at, task in view.located():
        done = {task.id} | view.before(task.id)
        for number, target in enumerate(task.task_destinations):
            for index, text in enumerate(target.conditions):
                yield from _condition(view, (*at, "task_destinations", number, "conditions", index), text, done)
        own = TASK_TYPE_SPECS[TaskType(task.type)].paths if view.is_supported(task) else ()
        for name, value in task.args.items() if view.is_supported(task) else ():
            yield from _argument(view, (*at, "args", name), value, done - {task.id}, own)


def _condition(view: SpecView, at: Location, text: str, done: set[str]) -> Iterator[Finding]:
    if not text.strip():
        yield warning(at, "blank-condition", "the condition is blank and always holds", "remove it")
        return
    try:
        tree = parse(text)
    except ConditionError as error:
        hint = f"for example: {_EXAMPLE}"
        message = f"the condition cannot be read: {error.message}"
        yield Finding(at, "bad-condition", message, hint, offset=error.column - 1)
        for path, start in placed_paths(text):  # else who mends the one fault meets the next
            yield from _path(view, at, path, done, start)
        return
    for template in templates(tree):
        yield from _path(view, at, template.path, done, template.column - 1)
    for comparison in comparisons(tree):
        yield from _status(at, comparison)
        yield from _order(at, comparison)


def _order(at: Location, comparison: Comparison) -> Iterator[Finding]:
    """An order of a value and of a text that is no number. The parser refuses one of two such texts."""
    for side in (comparison.left, comparison.right) if comparison.operator.orders else ():
        if isinstance(side, Text) and decimal_of(side.value) is None:
            shown = "NULL" if side.value is None else repr(side.value[:60])
            message = f"{shown} is no number, so that the comparison never holds"
            hint = "== and != compare text; >, <, >= and <= numbers"
            yield warning(at, "never-holds", message, hint, side.column - 1)


def _status(at: Location, comparison: Comparison) -> Iterator[Finding]:
    """A task's status compared with a word that no task ever has as its status."""
    sides = (comparison.left, comparison.right)
    for side, other in (sides, sides[::-1]):
        if not isinstance(side, Template) or not _STATUS.fullmatch(side.path) or not isinstance(other, Text):
            continue
        if other.value is not None and other.value.strip().lower() not in _STATUSES:
            hint = nearest(other.value, _ENDS) or f"one of: {', '.join(_ENDS)}"
            message = f"no task has the status {other.value[:60]!r}"
            yield warning(at, "unknown-status", message, hint, other.column - 1)


def _argument(view: SpecView, at: Location, value: Any, done: set[str], own: tuple[str, ...] = ()) -> Iterator[Finding]:
    longest = max(map(len, leaves(value)), default=0)
    if longest > MAX_TEXT:
        message = f"an argument has {longest} characters; {MAX_TEXT} are allowed"
        yield Finding(at, "too-long", message, "put it into the application's image or its model")
    for place, text in _texts(at, value):
        for path in paths_of(text):
            if path not in own:
                yield from _path(view, place, path, done, 0)
        if (start := unclosed(text)) is not None:
            message = f"a template is opened and not closed: {text[start : start + 40]!r}"
            yield Finding(place, "unclosed-template", message, "write {{ path }}; its end is }}", offset=start)


def _texts(at: Location, value: Any) -> Iterator[tuple[Location, str]]:
    """Every text in an argument, with its place."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts((*at, key), item)


def _path(view: SpecView, at: Location, path: str, done: set[str], offset: int) -> Iterator[Finding]:
    parts = path.split(".")
    if parts[:2] == ["context", "executions"] and len(parts) > 2:
        task = view.find(parts[2])
        if task is None:
            hint = view.suggestion(parts[2])
            if hint is not None:
                yield Finding(at, "unknown-task", f"there is no task {parts[2][:100]!r}", hint, offset=offset)
            return
        if task.id not in done and view.is_graph_sure:
            message = f"task {task.id!r} cannot have run when this is evaluated, so that its values are NULL"
            yield warning(at, "not-upstream", message, "refer to a task that comes before", offset)
    if parts[:2] == ["context", "params"] and len(parts) == 3:
        yield from _param(view, at, parts[2], offset)
    elif names_attribute(path):
        yield from attribute_of(path, at, offset)
    elif not is_known_path(path) or (path == "context.input.dicom" and "args" not in at):
        yield _without_value(at, path, offset)


def _param(view: SpecView, at: Location, name: str, offset: int) -> Iterator[Finding]:
    known = list(view.spec.params)
    if name not in known:
        if not view.doubts.lost("params"):
            hint = nearest(name, known) or f"parameters here: {', '.join(known[:20]) or 'none; add it to params'}"
            yield Finding(at, "unknown-param", f"there is no parameter {name[:100]!r}", hint, offset=offset)
    elif at[0] in ("predicate", "schedule"):
        message = f"nobody has given the parameter {name!r} when this is evaluated, so that it has its default"
        yield warning(at, "not-upstream", message, "use parameters in conditions and arguments of tasks", offset)


def _without_value(at: Location, path: str, offset: int) -> Finding:
    """A path that no study can give a value. In an argument it misleads nobody: conditions choose the way."""
    if is_published_path(path):
        message = f"{path[:100]!r} has no value and is always NULL, though the published definition names it"
        return warning(at, "unknown-path", message, better_path(path), offset)
    is_folder = path in INPUT_PATHS
    why = "is a folder: nothing can be compared with it" if is_folder else "is no known path and would always be NULL"
    message = f"{path[:100]!r} {why}"
    severity = Severity.WARNING if "args" in at else Severity.ERROR
    return Finding(at, "unknown-path", message, better_path(path), severity, offset)


def artifact_values(view: SpecView) -> Iterator[Finding]:
    """Artifact values that are no template, or that point at what is not there when the task runs."""
    for at, task in view.located():
        if not view.is_supported(task):
            continue
        for index, artifact in enumerate(task.artifacts.input):
            yield from _input(view, (*at, "artifacts", "input", index, "value"), task, artifact.value)
        for index, output in enumerate(task.artifacts.output):
            if output.value is not None:
                yield from _output((*at, "artifacts", "output", index, "value"), task, output.value)


def _input(view: SpecView, at: Location, task: TaskSpec, value: str) -> Iterator[Finding]:
    try:
        reference = parse_artifact(value)
    except TemplateError as error:
        yield Finding(at, "bad-template", str(error), 'for example "{{ context.input.dicom }}"')
        return
    if reference.task is None:
        return
    source = view.find(reference.task)
    if source is None:
        hint = view.suggestion(reference.task)
        if hint is not None:
            yield Finding(at, "unknown-task", f"there is no task {reference.task[:100]!r}", hint)
    elif source.id not in view.before(task.id):
        if not view.is_graph_sure:
            return
        message = f"task {source.id!r} does not come before {task.id!r}, so that its output is not there yet"
        yield Finding(at, "not-upstream", message, "take the output of a task on the way to this one")
    else:
        yield from _declared(view, at, source, reference)


def _declared(view: SpecView, at: Location, source: TaskSpec, reference: ArtifactReference) -> Iterator[Finding]:
    if not view.is_supported(source) or reference.source is not ArtifactSource.ARTIFACT:
        return
    names = [output.name for output in source.artifacts.output]
    if reference.artifact not in names and not _may_lack_names(view, source, names):
        hint = nearest(reference.artifact or "", names) or f"it declares: {', '.join(names) or 'none'}"
        message = f"task {source.id!r} declares no output {(reference.artifact or '')[:100]!r}"
        yield Finding(at, "unknown-artifact", message, hint)


def _may_lack_names(view: SpecView, source: TaskSpec, names: list[str]) -> bool:
    """Whether the outputs of a task are not all those that the author meant."""
    if any(task is not source and task.id.lower() == source.id.lower() for task in view.spec.tasks):
        return True
    if not view.doubts.places:
        return False
    index = view.spec.tasks.index(source)
    return view.doubts.lost("tasks", index, "artifacts", "output") or any(name.startswith(INVENTED) for name in names)


def _output(at: Location, task: TaskSpec, value: str) -> Iterator[Finding]:
    own = f"{{{{ context.executions.{task.id}.output_dir }}}}"
    try:
        reference = parse_artifact(value)
    except TemplateError as error:
        yield Finding(at, "bad-template", str(error), f"leave the value out, or write {own}/<folder>")
        return
    if reference.source is not ArtifactSource.OUTPUT_DIR or (reference.task or "").lower() != task.id.lower():
        message = f"an output of task {task.id!r} must lie in its own output folder"
        yield Finding(at, "bad-template", message, f"leave the value out, or write {own}/<folder>")
