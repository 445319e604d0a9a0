"""Checks of a task's arguments against the table of its type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_monai.specs.findings import KEY, Finding, Location, warning
from airflow_monai.specs.model import TaskSpec
from airflow_monai.specs.problems import nearest_word
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec
from airflow_monai.specs.units import duration_seconds
from airflow_monai.specs.view import SpecView

_TRUTHS = ("true", "false")
ENVIRONMENT = "env_"
"""Begins arguments that an application gets as variables of its environment."""
_ENVIRONMENTS = ("env", "environment", "envs", "variables")
_NEVER = (
    "privileged",
    "devices",
    "device",
    "cap_add",
    "security_opt",
    "network_mode",
    "pid_mode",
    "ipc_mode",
    "userns_mode",
    "cgroup_parent",
    "volumes",
    "binds",
    "runtime",
)
"""What container engines can be told, and a workflow cannot."""
# Words that authors write -> arguments that may be meant, the first that the type has.
_OTHER_WORDS = {
    "image": ("map", "container_image"),
    "container_image": ("map",),
    "application": ("map",),
    "recipients": ("recipient_emails",),
    "recipient": ("recipient_emails",),
    "to": ("recipient_emails",),
}


def arguments(view: SpecView, at: Location, task: TaskSpec, kind: TaskTypeSpec) -> Iterator[Finding]:
    """Arguments that the type does not know, that lack, and that are not what the table says."""
    given, meant = set(), set()
    for name, value in task.args.items():
        arg = kind.arg(name)
        if arg is not None:
            given.add(arg.name)
            yield from _value((*at, "args", name), task, arg, value)
        elif not _takes(kind, task, name):
            meant.add(_meant(name, kind))
            yield _unknown((*at, "args", name, KEY), task, kind, name)
    for arg in kind.args:
        if arg.required and arg.name not in given | meant and not view.doubts.lost(*at, "args"):
            message = f"task {task.id!r}: a task of type {task.type} needs args.{arg.name}"
            place = (*at, "args", KEY) if task.args else at
            yield Finding(place, "missing-argument", message, _example(arg))


def _takes(kind: TaskTypeSpec, task: TaskSpec, name: str) -> bool:
    """Whether a name that is not in the table may be an argument."""
    if any(name.startswith(prefix) for prefix in kind.prefixes):
        return True
    return kind.takes_artifact_names and name in _artifact_names(task)


def _unknown(at: Location, task: TaskSpec, kind: TaskTypeSpec, name: str) -> Finding:
    if not kind.args and not kind.prefixes:
        message = f"task {task.id!r}: a task of type {task.type} takes no arguments; {name[:60]!r} means nothing"
        return warning(at, "ignored-argument", message, "remove it")
    if ENVIRONMENT in kind.prefixes and name.lower() in _NEVER:
        message = f"task {task.id!r}: {name!r} is refused: no application gets more of its host than its own folders"
        return Finding(at, "refused-argument", message, "remove it; args.network, args.mounts say what can be had")
    message = f"task {task.id!r}: a task of type {task.type} has no argument {name[:60]!r}"
    if kind.ignores_others and not _meant(name[:60], kind):
        return warning(at, "ignored-argument", f"{message}; it means nothing", "remove it")
    return Finding(at, "unknown-argument", message, _instead_of(name[:60], kind))


def _instead_of(name: str, kind: TaskTypeSpec) -> str:
    """What to write in place of an argument that the type does not know."""
    names = [arg.name for arg in kind.args]
    near = _meant(name, kind)
    if near or ENVIRONMENT not in kind.prefixes:
        return f"did you mean {near!r}?" if near else f"it takes: {', '.join(names)}"
    if name.lower() in _ENVIRONMENTS:
        return f"write each variable as an argument of its own: {ENVIRONMENT}NAME: value"
    return f"write {ENVIRONMENT}{name} for a variable of the application's environment; it takes: {', '.join(names)}"


def _meant(name: str, kind: TaskTypeSpec) -> str | None:
    """The argument that an unknown one most likely is."""
    names = [arg.name for arg in kind.args]
    other = next((known for known in _OTHER_WORDS.get(name.lower(), ()) if known in names), None)
    return other or nearest_word(name, names)


def _artifact_names(task: TaskSpec) -> set[str]:
    return {item.name for item in task.artifacts.input} | {item.name for item in task.artifacts.output}


def _value(at: Location, task: TaskSpec, arg: Arg, value: Any) -> Iterator[Finding]:
    if isinstance(value, str) and "{{" in value:
        if not arg.template:
            message = f"task {task.id!r}: args.{arg.name} cannot hold a template"
            yield Finding(at, "template-not-allowed", message, "write the value itself")
        return
    problem = _problem(arg, value)
    if problem:
        yield Finding(at, "bad-argument", f"task {task.id!r}: args.{arg.name} {problem}", _example(arg))


def _problem(arg: Arg, value: Any) -> str:
    """What is wrong with a value that holds no template, or an empty text."""
    if arg.form is Form.ANY:
        return ""
    if arg.form is Form.MAPPING:
        return "" if isinstance(value, dict) else "must be a mapping"
    if arg.form is Form.NAMES:
        names = value if isinstance(value, list) else str(value).split(",")
        is_plain = all(isinstance(name, str) and name.strip() for name in names)
        return (
            "" if names and is_plain and not isinstance(value, dict) else "must be a list of texts that are not blank"
        )
    if not isinstance(value, str):
        return "must be a single value"
    return _scalar_problem(arg, value.strip())


def _scalar_problem(arg: Arg, text: str) -> str:
    if not text:
        return "must not be blank"
    if arg.form is Form.BOOLEAN:
        return "" if text.lower() in _TRUTHS else "must be true or false"
    if arg.form is Form.CHOICE:
        known = [choice.lower() for choice in arg.choices]
        return "" if text.lower() in known else f"must be one of: {', '.join(arg.choices)}"
    if arg.form is Form.TEXT:
        return ""
    try:
        number = duration_seconds(text) if arg.form is Form.DURATION else float(text)
    except ValueError as error:
        return f"is no time: {error}" if arg.form is Form.DURATION else f"must be a {arg.form.value}"
    if arg.form is Form.WHOLE and (number != int(number) or not text.lstrip("+-").isdecimal()):
        return "must be a whole number"
    if arg.minimum is not None and number < arg.minimum:
        return f"must be at least {arg.minimum:g}"
    if arg.maximum is not None and number > arg.maximum:
        return f"must be at most {arg.maximum:g}"
    return ""


def _example(arg: Arg) -> str:
    example = arg.example or (arg.choices[0] if arg.choices else "")
    return f"for example {arg.name}: {example}" if example else arg.help
