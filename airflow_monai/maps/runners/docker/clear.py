"""Removes by a short container what an application's user has left in an output folder and the worker may not remove.

A worker that is not root can give its container another user; what that one makes in folders of its own belongs to it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError
from airflow_monai.maps.runners.base import MapJob
from airflow_monai.maps.runners.folders import default_user

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_monai.maps.runners.docker.engine import Engine

LABELS = {"monai.purpose": "clear"}
SECONDS = 120.0
_OUTPUT = "/output"
_SCRIPT = f"cd {_OUTPUT} && chmod -R u+rwX ./* ./.[!.]* ./..?* 2>/dev/null; rm -rf ./* ./.[!.]* ./..?*"


def clear_output(engine: Engine, job: MapJob, store_label: Mapping[str, str]) -> None:
    """Empty the job's output folder as the job's user, who may write to it, by the shell of the job's own image.

    :raises MapError: when that fails, or takes too long.
    """
    name = f"{job.name}-clear"
    engine.remove(name)  # of an earlier try
    engine.create(name, _config(job, {**LABELS, **store_label}))
    try:
        engine.start(name)
        deadline = time.monotonic() + SECONDS
        while not engine.wait(name, 2.0):
            if time.monotonic() > deadline:
                raise MapError(f"it was not done within {SECONDS:g} s.")
        ended = engine.inspect(name)
        code = ended["State"]["ExitCode"] if ended else None
        if code != 0:
            raise MapError(f"it ended with exit code {code}.")
    finally:
        engine.remove(name)


def _config(job: MapJob, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "Image": job.found.location,
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": [_SCRIPT],
        "User": job.user or default_user(""),
        "WorkingDir": "/",
        "Labels": dict(labels),
        "NetworkDisabled": True,
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 64,
            "Memory": 256 * 2**20,
            "Mounts": [{"Type": "bind", "Source": str(job.output), "Target": _OUTPUT, "ReadOnly": False}],
        },
    }
