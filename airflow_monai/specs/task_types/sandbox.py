"""Arguments of all task types that run an application in a container: what they ask of the site's policy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.task_types.base import Arg, Form
from airflow_monai.specs.units import memory_bytes

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec

_MOUNT = re.compile(r"/[^:\x00-\x1f\x7f]*:/[^:\x00-\x1f\x7f]*(:ro)?")

SANDBOX = (
    Arg(
        "network",
        "A network of the container engine that the site allows; none otherwise.",
        default="none",
        template=False,
        example="models",
    ),
    Arg(
        "capabilities",
        "Linux capabilities that the site allows. They only count for an application that runs as root.",
        Form.NAMES,
        template=False,
        example="SYS_NICE",
    ),
    Arg(
        "mounts",
        "Folders of the container host that the site allows, to be read: /host/folder:/container/folder.",
        Form.NAMES,
        template=False,
        example="/srv/models:/models",
    ),
    Arg(
        "pids",
        "How many processes and threads it may have, fewer than the site allows.",
        Form.WHOLE,
        template=False,
        minimum=16,
        maximum=4_194_304,
    ),
    Arg(
        "output_quota",
        "How much it may write to its output, less than the site allows.",
        template=False,
        example="2Gi",
    ),
)


RUNNER = Arg(
    "runner",
    "What runs it, in place of the site's own runner.",
    Form.CHOICE,
    choices=("docker", "kubernetes"),  # a process is less shut in than either, which only the site decides
    default="the site's",
    template=False,
)


def check_sandbox(at: Location, task: TaskSpec, args: Mapping[str, Any]) -> Iterator[Finding]:
    """What the table of arguments cannot say.

    :param at: of the arguments.
    """
    mounts = args.get("mounts")
    for text in mounts if isinstance(mounts, list) else str(mounts or "").split(","):
        if isinstance(text, str) and text.strip() and not _MOUNT.fullmatch(text.strip()):
            message = f"task {task.id!r}: args.mounts holds what is no mount that can only be read"
            yield Finding((*at, "mounts"), "bad-mount", message, "for example /srv/models:/models")
    quota = args.get("output_quota")
    if isinstance(quota, str) and quota.strip():
        try:
            memory_bytes(quota)
        except ValueError as error:
            yield Finding((*at, "output_quota"), "bad-argument", f"task {task.id!r}: args.output_quota: {error}")
