"""Checks against a site. All are warnings with codes of their own: elsewhere the same workflow may be all right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from airflow_monai.errors import ConditionError
from airflow_monai.specs.compile import resources_of
from airflow_monai.specs.conditions.ast import templates
from airflow_monai.specs.conditions.parser import parse
from airflow_monai.specs.findings import Finding, Location, warning
from airflow_monai.specs.model import TaskSpec, WorkflowSpec
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.problems import nearest
from airflow_monai.specs.site import Application, Site
from airflow_monai.specs.view import SpecView

PREFIX = "site-"
UNSAID_MINUTES = -1


def check_site(spec: WorkflowSpec, site: Site) -> Iterator[Finding]:
    """What a workflow asks for that the site does not have.

    :param spec: one that the other checks have passed.
    """
    view, application = SpecView(spec), cache(site.application)
    destination, connection = cache(site.destination), cache(site.connection)
    for at, task in view.located():
        yield from _capacity(at, task, site)
        if task.type in (TaskType.MAP, TaskType.DOCKER):
            yield from _policy(at, task, site)
        if task.type in (TaskType.EXPORT, TaskType.EXPORT_HL7):
            for index, sink in enumerate(task.export_destinations):
                if problem := destination(sink.name, task.type):
                    yield warning((*at, "export_destinations", index, "name"), f"{PREFIX}destination", problem)
        if (name := task.args.get("connection")) and (problem := connection(str(name))):
            yield warning((*at, "args", "connection"), f"{PREFIX}connection", f"task {task.id!r}: {problem}")
        if task.type == TaskType.MAP and (problem := application(task.args["map"]).problem):
            yield warning((*at, "args", "map"), f"{PREFIX}application", problem)
        for number, target in enumerate(task.task_destinations):
            for index, text in enumerate(target.conditions):
                place = (*at, "task_destinations", number, "conditions", index)
                yield from _result_keys(view, place, text, application)


def _capacity(at: Location, task: TaskSpec, site: Site) -> Iterator[Finding]:
    resources = resources_of(task.resources)
    problem = site.capacity(resources) if resources else ""
    if problem:
        yield warning((*at, "resources"), f"{PREFIX}capacity", problem)


def _policy(at: Location, task: TaskSpec, site: Site) -> Iterator[Finding]:
    minutes = None if task.timeout_minutes == UNSAID_MINUTES else task.timeout_minutes
    for field, problem in site.policy(task.args, resources_of(task.resources), minutes):
        top, _, name = field.partition(".")
        written = next((key for key in task.args if key.lower() == name), name)
        at_args = top == "args" and written in task.args
        place = (*at, "args", written) if at_args else (*at, top) if top != "args" else at
        yield warning(place, f"{PREFIX}policy", f"task {task.id!r}: {field}: {problem}")


def _result_keys(
    view: SpecView, at: Location, text: str, application: Callable[[str], Application]
) -> Iterator[Finding]:
    """Keys of results that the application, which says what its keys are, does not name."""
    try:
        found = list(templates(parse(text))) if text.strip() else []
    except ConditionError:
        return
    for template in found:
        parts = template.path.split(".")
        if parts[:2] != ["context", "executions"] or "result" not in parts[3:5]:
            continue
        source = view.find(parts[2])
        key = ".".join(parts[parts.index("result", 3) + 1 :])
        known = application(source.args["map"]).result_keys if source and source.type == TaskType.MAP else None
        if known is not None and source and key not in known and key.split(".")[0] not in known:
            message = f"the application of task {source.id!r} declares no result {key[:60]!r}"
            hint = nearest(key, known) or f"it declares: {', '.join(known) or 'none'}"
            yield warning(at, f"{PREFIX}result-key", message, hint, template.column - 1)
