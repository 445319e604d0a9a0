"""Checks of a whole workflow beyond the types of its fields. Each yields what it finds."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_monai.specs.checks.args import arguments
from airflow_monai.specs.checks.params import parameters
from airflow_monai.specs.checks.policy import retry_policies
from airflow_monai.specs.checks.references import artifact_values, conditions
from airflow_monai.specs.checks.regions import regions
from airflow_monai.specs.checks.schedule import schedules
from airflow_monai.specs.choices import LATER_TASK_TYPES, TASK_TYPES
from airflow_monai.specs.doubts import Doubts
from airflow_monai.specs.findings import Finding, Location, warning
from airflow_monai.specs.graph import loops, reachable
from airflow_monai.specs.model import ExportDestination, TaskSpec, WorkflowSpec
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.problems import nearest
from airflow_monai.specs.task_types import TASK_TYPE_SPECS
from airflow_monai.specs.view import NO_DOUBTS, SpecView


def check(spec: WorkflowSpec, doubts: Doubts = NO_DOUBTS) -> Iterator[Finding]:
    """Everything that is wrong with a workflow whose fields are well-formed.

    :param doubts: what of it is not the author's; what would only follow from that is left out.
    """
    view = SpecView(spec, doubts)
    graph = (_task_types, _ids, _destinations, _loops, _reachability, _tasks)
    for one in (*graph, conditions, artifact_values, regions, parameters, schedules, retry_policies):
        yield from map(view.as_written, one(view))


def _task_types(view: SpecView) -> Iterator[Finding]:
    for at, task in view.located():
        if task.type in LATER_TASK_TYPES:
            message = f"task {task.id!r}: the type {task.type!r} is not supported yet by this version"
            yield Finding((*at, "type"), "task-type-unsupported", message, f"it runs: {', '.join(TASK_TYPES)}")
        elif task.type not in TASK_TYPES:
            message = f"task {task.id!r}: there is no type {task.type[:60]!r}"
            hint = nearest(task.type, (*TASK_TYPES, *LATER_TASK_TYPES)) or f"known: {', '.join(TASK_TYPES)}"
            yield Finding((*at, "type"), "unknown-task-type", message, hint)


def _ids(view: SpecView) -> Iterator[Finding]:
    places: dict[str, list[int]] = {}
    for index, task in enumerate(view.spec.tasks):
        places.setdefault(task.id.lower(), []).append(index)
    for indexes in places.values():
        for index in indexes if len(indexes) > 1 else ():
            task_id = view.spec.tasks[index].id
            hint = "ids are compared without regard to case: give each task its own"
            message = f"{len(indexes)} tasks have the id {task_id!r}"
            yield Finding(("tasks", index, "id"), "duplicate-id", message, hint)


def _destinations(view: SpecView) -> Iterator[Finding]:
    root = view.spec.tasks[0].id
    for at, task in view.located():
        seen: set[str] = set()
        for index, target in enumerate(task.task_destinations):
            place = (*at, "task_destinations", index, "name")
            if target.name not in view.tasks:
                hint = view.suggestion(target.name)
                if hint is not None:
                    yield Finding(place, "unknown-destination", f"task {task.id!r}: no task {target.name!r}", hint)
            elif target.name in seen:
                message = f"task {task.id!r} names the destination {target.name!r} twice"
                yield Finding(place, "duplicate-destination", message, "join the conditions with OR in one destination")
            elif target.name == root:
                message = f"task {task.id!r} leads back to the first task, {root!r}, where the workflow begins"
                yield Finding(place, "root-destination", message, "begin with a task that none leads to")
            seen.add(target.name)


def _loops(view: SpecView) -> Iterator[Finding]:
    if len(view.ids) < len(view.spec.tasks):
        return  # with two tasks of one id a loop says nothing
    root = view.spec.tasks[0].id
    order = {task.id: index for index, task in reversed(list(enumerate(view.spec.tasks)))}
    for path in loops(view.graph):
        if root in path:
            continue  # reported as a way back to the root
        source = view.tasks[path[-2]]
        index = next(i for i, target in enumerate(source.task_destinations) if target.name == path[-1])
        place = ("tasks", order[source.id], "task_destinations", index, "name")
        shown = path if len(path) <= 12 else [*path[:6], "...", *path[-5:]]
        message = f"tasks follow each other in a loop: {' -> '.join(shown)}"
        yield Finding(place, "loop", message, "remove one of these ways")


def _reachability(view: SpecView) -> Iterator[Finding]:
    if not view.is_graph_sure:
        return
    found = reachable(view.meant, view.spec.tasks[0].id)
    for at, task in view.located():
        if task.id not in found:
            hint = "name it in a task_destinations, or remove it; the first task of the list is the root"
            yield Finding((*at, "id"), "unreachable-task", f"no way leads from the first task to {task.id!r}", hint)


def _tasks(view: SpecView) -> Iterator[Finding]:
    for at, task in view.located():
        if not view.is_supported(task):
            continue
        kind = TASK_TYPE_SPECS[TaskType(task.type)]
        yield from _artifact_names(at, task)
        yield from arguments(view, at, task, kind)
        if kind.check:
            yield from kind.check(view, at, task)
        if kind.uses_destinations:
            yield from _export(view, at, task)
        elif task.export_destinations:
            message = f"task {task.id!r}: only an export task uses export_destinations"
            yield warning((*at, "export_destinations"), "unused-destinations", message, "add a task of type export")
        if kind.needs_input and not task.artifacts.input and not view.doubts.lost(*at, "artifacts", "input"):
            message = f"task {task.id!r} has no input artifact"
            hint = 'artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}]}'
            yield Finding(at, "missing-input", message, hint)


def _artifact_names(at: Location, task: TaskSpec) -> Iterator[Finding]:
    sides = {
        "input": [artifact.name for artifact in task.artifacts.input],
        "output": [artifact.name for artifact in task.artifacts.output],
    }
    for side, names in sides.items():
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name.lower() in seen:
                message = f"task {task.id!r} has two {side} artifacts named {name!r}"
                place = (*at, "artifacts", side, index, "name")
                yield Finding(place, "duplicate-artifact", message, "names are compared without regard to case")
            seen.add(name.lower())


def _export(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    if not task.export_destinations and not view.doubts.lost(*at, "export_destinations"):
        message = f"task {task.id!r}: an export task needs export_destinations"
        yield Finding(at, "missing-destination", message, "export_destinations: [{name: ...}]")
    registered = view.spec.informatics_gateway.export_destinations
    seen: set[str] = set()
    for index, sink in enumerate(task.export_destinations):
        place = (*at, "export_destinations", index, "name")
        if sink.name in seen:
            message = f"task {task.id!r} exports twice to {sink.name!r}"
            yield Finding(place, "duplicate-destination", message, "remove one of them")
        elif sink.name not in registered and not view.doubts.lost("informatics_gateway", "export_destinations"):
            yield _unregistered(view, place, task, sink)
        seen.add(sink.name)


def _unregistered(view: SpecView, at: Location, task: TaskSpec, sink: ExportDestination) -> Finding:
    registered = view.spec.informatics_gateway.export_destinations
    message = f"task {task.id!r}: {sink.name!r} is not in the informatics_gateway's export_destinations"
    return Finding(at, "unregistered-destination", message, nearest(sink.name, registered) or "add it there")
