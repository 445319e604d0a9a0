"""``docker``: any container image, with what it shall do written out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.specs.arguments import VARIABLE_PREFIX, words
from airflow_monai.specs.findings import Finding, Location, warning
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec
from airflow_monai.specs.task_types.sandbox import RUNNER, SANDBOX, check_sandbox

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

_IMAGE = re.compile(r"[A-Za-z0-9][^\s\x00-\x1f\x7f]{0,299}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")
_USER = re.compile(r"[0-9]{1,9}(:[0-9]{1,9})?")
_SYSTEM = ("/proc", "/sys", "/dev", "/run/secrets")
_SHELL = re.compile(r"(?:.*/)?(?:ba|da|z|k)?sh")
WORKDIR = f"{VARIABLE_PREFIX}MONAI_WORKDIR"


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    if not view.doubts.lost(*at, "args") and not view.doubts.lost(*at, "artifacts"):
        yield from _missing_paths(at, task)
    for check in (_paths, _words, _variables, _site, check_sandbox):
        yield from check((*at, "args"), task, task.args)


def _missing_paths(at: Location, task: TaskSpec) -> Iterator[Finding]:
    for side, names in _artifacts(task).items():
        for index, name in enumerate(names):
            place = (*at, "artifacts", side, index, "name")
            if name.lower() in _NAMES:
                message = f"task {task.id!r}: {name!r} is an argument of docker tasks"
                yield Finding(place, "artifact-is-argument", message, "give the artifact another name")
            elif name not in task.args:
                message = f"task {task.id!r}: args lacks {name!r}, the artifact's path in the container"
                yield Finding(place, "missing-path", message, f"args: {{{name}: /var/monai/{side}/}}")


def _artifacts(task: TaskSpec) -> dict[str, list[str]]:
    return {
        "input": [item.name for item in task.artifacts.input],
        "output": [item.name for item in task.artifacts.output],
    }


def _paths(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    """The artifacts' paths: absolute, and none within another one."""
    seen: dict[str, str] = {}
    names = [name for side in _artifacts(task).values() for name in side if name.lower() not in _NAMES]
    for name in [name for name in (*names, WORKDIR) if name in args]:
        problem = _path_problem(args[name])
        path = "" if problem else _normal(args[name])
        if not problem:
            near = next((other for other in seen if _collide(path, other, name)), None)
            problem = f"is {args[name]!r}, in the way of args.{seen[near]}, {near!r}" if near else ""
            seen[path] = name
        if problem:
            message = f"task {task.id!r}: args.{name} {problem}"
            yield Finding((*at, name), "bad-path", message, "an absolute path of its own, such as /var/monai/input/")


def _path_problem(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        return "must be an absolute path in the container"
    if "{{" in value:
        return "cannot hold a template"
    path = _normal(value)
    if path == "/" or ".." in value.split("/") or any(_overlap(path, top) for top in _SYSTEM):
        return f"is {value!r}, where nothing can be mounted"
    return ""


def _normal(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _collide(path: str, other: str, name: str) -> bool:
    """Whether two artifacts' folders are, or are in, one another; the working folder may hold them."""
    return f"{path}/".startswith(f"{other}/") if name == WORKDIR else _overlap(path, other)


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _words(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    for name in ("entrypoint", "command"):
        value = args.get(name)
        if isinstance(value, dict) or (isinstance(value, list) and not all(map(_is_scalar, value))):
            message = f"task {task.id!r}: args.{name} must be a text or a list of texts"
            yield Finding((*at, name), "bad-argument", message, f'for example {name}: ["/bin/sh", "-c"]')
            return
    shell = words(args.get("entrypoint")) or words(args.get("command")) or [""]
    script = " ".join([*(words(args.get("entrypoint")) or []), *(words(args.get("command")) or [])])
    if _SHELL.fullmatch(shell[0]) and "{{" in script:
        message = f"task {task.id!r}: a template within a shell's command: what is in the study would be run"
        hint = 'give the value as env_NAME and use "$NAME" in the command'
        yield warning((*at, "command" if "command" in args else "entrypoint"), "template-in-shell", message, hint)


def _variables(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in args.items():
        if not name.startswith(VARIABLE_PREFIX):
            continue
        if not _VARIABLE.fullmatch(name.removeprefix(VARIABLE_PREFIX)):
            message = f"task {task.id!r}: args.{name[:60]} names no environment variable"
            yield Finding((*at, name), "bad-variable", message, "env_ and letters, digits or '_'")
        elif not _is_scalar(value):
            message = f"task {task.id!r}: args.{name[:60]} must be a single value"
            yield Finding((*at, name), "bad-argument", message, "write it as a text")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))


def _site(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    """What a site decides, and a file only seems to."""
    image = args.get("container_image")
    if isinstance(image, str) and image.strip() and "{{" not in image and not _IMAGE.fullmatch(image.strip()):
        message = f"task {task.id!r}: args.container_image is no image reference"
        yield Finding((*at, "container_image"), "bad-image", message, 'for example "alpine:3.20"')
    if "server_url" in args:
        message = f"task {task.id!r}: args.server_url is not used: the site decides which engine runs containers"
        yield warning((*at, "server_url"), "ignored-argument", message, "[monai] docker_url or docker_conn_id names it")
    user = str(args.get("user", "")).strip()
    if user and "{{" not in user and (not _USER.fullmatch(user) or not int(user.partition(":")[0])):
        message = f"task {task.id!r}: args.user is not used: containers run as the site's user, never as root or a name"
        yield warning((*at, "user"), "ignored-argument", message, "give a number other than 0, such as 1000:1000")


_ARGS = (
    Arg("container_image", "The image to run.", required=True, template=False, example="alpine:3.20"),
    Arg(
        "entrypoint",
        "Words in place of the image's entry point: separated by commas, or a list.",
        Form.ANY,
        default="the image's",
        example="/bin/sh,-c",
    ),
    Arg(
        "command",
        "Words in place of the image's command: separated by commas, or a list, whose words may hold commas.",
        Form.ANY,
        default="the image's",
        example="python3 -u /opt/app/app.py",
    ),
    Arg("user", "Number of the user, and of the group, to run as.", default="the site's", template=False),
    Arg(
        "always_pull",
        "Ask the registry for the image although the engine has it.",
        Form.BOOLEAN,
        default="false",
        template=False,
    ),
    Arg(
        "task_timeout_minutes",
        "Time limit of the container, where the task has no timeout_minutes.",
        Form.NUMBER,
        default="5",
        template=False,
        minimum=0,
        maximum=525_600,
    ),
    Arg(WORKDIR, "A folder in memory that the container may write to; also the variable MONAI_WORKDIR.", Form.ANY),
    RUNNER,
    *SANDBOX,
    Arg("server_url", "Accepted and not used: the site decides which engine runs containers.", template=False),
    Arg("temp_storage_container_path", "Accepted and not used: inputs are mounted, not copied.", template=False),
)
_NAMES = frozenset(arg.name.lower() for arg in _ARGS)


SPEC = TaskTypeSpec(
    TaskType.DOCKER,
    "Runs a container image: its command, variables and paths are written out.",
    args=_ARGS,
    prefixes=(VARIABLE_PREFIX,),
    takes_artifact_names=True,
    needs_input=True,
    check=_check,
)
