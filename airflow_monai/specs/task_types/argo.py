"""``argo``: a workflow of an Argo cluster, started from a template there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_monai.specs.argo_arguments import OTHER_NAMES, parameters_of
from airflow_monai.specs.findings import Finding, Location, warning
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_PARAMETER = re.compile(r"[A-Za-z0-9_-]{1,100}")
_QUANTITY = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_BROKER = ("endpoint", "username", "password", "exchange", "virtualHost")
_OWN_PARAMETER = "output_path"
PRIORITIES = ("high", "standard", "low")


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    for check in (_names, _amounts, _parameters, _other_names, _unused, _secrets):
        yield from check((*at, "args"), task, task.args)
    for index, item in enumerate(task.artifacts.input):
        if item.name == _OWN_PARAMETER or not _PARAMETER.fullmatch(item.name):
            message = f"task {task.id!r}: {item.name!r} cannot be the name of an input, which is a workflow parameter"
            hint = f"letters, digits, '-' and '_', and not {_OWN_PARAMETER}"
            yield Finding((*at, "artifacts", "input", index, "name"), "bad-artifact-name", message, hint)


def _names(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    for name in ("workflow_template_name", "namespace"):
        value = args.get(name)
        if isinstance(value, str) and value.strip() and "{{" not in value and not _NAME.fullmatch(value.strip()):
            message = f"task {task.id!r}: args.{name} is no name of Kubernetes"
            yield Finding((*at, name), "bad-argument", message, "lower-case letters, digits, '-' and '.'")
    url = args.get("server_url")
    if isinstance(url, str) and url.strip() and "{{" not in url and not _is_url(url.strip()):
        message = f"task {task.id!r}: args.server_url is no address"
        yield Finding((*at, "server_url"), "bad-argument", message, "for example https://argo-server.argo:2746")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:
        return False


def _amounts(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    cpu = str(args.get("cpu", "1")).strip()
    if "{{" not in cpu and not _is_whole(cpu) and not re.fullmatch(r"[1-9][0-9]*m", cpu):
        message = f"task {task.id!r}: args.cpu must be a whole number greater than 0"
        yield Finding((*at, "cpu"), "bad-argument", message, 'for example cpu: 2, or "500m" for half a core')
    memory = str(args.get("memory", "1Gi")).strip()
    if "{{" not in memory and not _QUANTITY.fullmatch(memory):
        message = f"task {task.id!r}: args.memory is no amount of memory"
        yield Finding((*at, "memory"), "bad-argument", message, "for example memory: 4Gi")


def _is_whole(text: str) -> bool:
    return text.isdecimal() and int(text) > 0


def _parameters(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        given = parameters_of(args.get("parameters"))
    except (ValueError, RecursionError):
        message = f"task {task.id!r}: args.parameters must be a mapping, or a text that is one in JSON"
        yield Finding((*at, "parameters"), "bad-argument", message, "parameters: {threshold: 0.5}")
        return
    inputs = {item.name for item in task.artifacts.input}
    for name in given:
        if not _PARAMETER.fullmatch(name):
            message = f"task {task.id!r}: {name[:60]!r} is no name of a workflow parameter"
            yield Finding((*at, "parameters"), "bad-parameter", message, "letters, digits, '-' and '_'")
        elif name == _OWN_PARAMETER or name in inputs:
            message = f"task {task.id!r}: the parameter {name!r} is set by itself"
            hint = "an input artifact is a parameter of its name, and output_path says where results go"
            yield Finding((*at, "parameters"), "bad-parameter", message, hint)


def _other_names(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    for other, own in OTHER_NAMES.items():
        if other not in args:
            continue
        if own in args:
            message = f"task {task.id!r}: args.{other} and args.{own} say the same"
            yield Finding((*at, other), "duplicate-argument", message, f"keep {own}")
        else:
            message = f"task {task.id!r}: args.{other} is called {own}"
            value = f'"{args[other]}Gi"' if other == "memory_gb" else args[other]
            yield warning((*at, other), "other-name", message, f"{own}: {value}")


def _unused(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    for name in _BROKER:
        if name in args:
            message = (
                f"task {task.id!r}: args.{name} is not used: the workflow is asked how it goes, it sends no message"
            )
            yield warning((*at, name), "ignored-argument", message, "remove it")
    if "resources" in args:
        message = f"task {task.id!r}: args.resources is not used"
        yield warning((*at, "resources"), "ignored-argument", message, "use cpu, memory and gpu_required")


def _secrets(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    if "apiToken" in args:
        message = f"task {task.id!r}: args.apiToken is a secret that everybody sees who sees this file"
        hint = "put it into the password of an Airflow connection of type argo, and write connection: <its id>"
        yield warning((*at, "apiToken"), "secret-in-file", message, hint)


def _unused_argument(name: str) -> Arg:
    return Arg(name, "Accepted and not used: the workflow is asked how it goes.", Form.ANY, template=False)


SPEC = TaskTypeSpec(
    TaskType.ARGO,
    "Starts a workflow from a template of an Argo cluster, and follows it; costs no worker process.",
    args=(
        Arg(
            "workflow_template_name",
            "Name of the WorkflowTemplate.",
            required=True,
            template=False,
            example="lung-segmentation",
        ),
        Arg("namespace", "Namespace of the cluster.", default="the connection's, or argo", template=False),
        Arg(
            "connection",
            "Airflow connection of type argo: server and token.",
            default="argo_default, where there is no server_url",
            template=False,
            example="argo_gpu",
        ),
        Arg(
            "server_url",
            "Address of the Argo Server, in place of the connection's.",
            template=False,
            example="https://argo-server.argo:2746",
        ),
        Arg(
            "allow_insecure",
            "Take the server's certificate unchecked.",
            Form.BOOLEAN,
            default="false",
            template=False,
        ),
        Arg(
            "parameters",
            "Parameters of the workflow: a mapping, or a text that is one in JSON.",
            Form.ANY,
            example="{threshold: 0.5}",
        ),
        Arg(
            "timeoutSeconds",
            "Argo itself ends the workflow after so many seconds.",
            Form.WHOLE,
            default="the task's timeout_minutes",
            template=False,
            minimum=1,
        ),
        Arg("priority", "Priority class of its pods.", Form.CHOICE, choices=PRIORITIES, default="the cluster's"),
        Arg("cpu", "Limit of every container, in cores.", Form.ANY, example="2"),
        Arg("memory", "Limit of every container.", Form.ANY, example="4Gi"),
        Arg("gpu_required", "Every container gets a GPU.", Form.BOOLEAN, template=False),
        Arg("apiToken", "Token for the server; better kept in the connection.", template=False),
        Arg("priority_class", "Another name for priority.", Form.CHOICE, choices=PRIORITIES),
        Arg("memory_gb", "Memory in GiB; write memory.", Form.NUMBER, template=False, minimum=0),
        *(_unused_argument(name) for name in (*_BROKER, "resources")),
    ),
    needs_input=True,
    check=_check,
)
