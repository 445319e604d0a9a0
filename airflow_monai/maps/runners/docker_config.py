"""A job as the Docker engine's API wants it: what the container may use, see and do."""

from __future__ import annotations

import os
from typing import Any

from airflow_monai.errors import MapError
from airflow_monai.maps.runners.base import MapJob, Mount, default_user

PIDS_LIMIT = 4096
NANO = 10**9
LOG_FILE_MIB, LOG_FILES = 512, 2
"""What the engine keeps of an application's output, so that a talkative one cannot fill its disk.

Engines lose lines for those who follow when one file gives way to the next, so the first holds as much as the store
takes, with the engine's own words around each line.
"""


def container_config(job: MapJob, *, local_engine: bool) -> dict[str, Any]:
    """Body of the request that creates the job's container.

    :param local_engine: the engine is on this host, so this host's cores are its cores.
    """
    user = job.user or default_user("")
    _check_readable(job, user)
    return {
        "Image": job.found.location,
        # not the image's own entry point: that one exits 0 when the application fails
        "Entrypoint": [job.command[0]],
        "Cmd": list(job.command[1:]),
        "Env": [f"{name}={value}" for name, value in {"HOME": "/tmp", **job.environment}.items()],
        "WorkingDir": job.found.manifest.working_directory,
        "User": user,
        "Labels": dict(job.labels),
        "NetworkDisabled": True,
        "HostConfig": _host_config(job, local_engine),
    }


def _host_config(job: MapJob, local_engine: bool) -> dict[str, Any]:
    resources = job.resources
    cores = min(resources.cpu, os.cpu_count() or 1) if local_engine else resources.cpu
    config: dict[str, Any] = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": PIDS_LIMIT,
        "Init": True,
        "Memory": resources.memory_bytes,
        "MemorySwap": resources.memory_bytes,  # no swap on top: over the limit means killed, not slow
        "NanoCpus": int(cores * NANO),
        "ShmSize": resources.shared_memory_bytes,
        # compilers of kernels write shared objects there and load them, hence exec
        "LogConfig": {
            "Type": "json-file",  # one that can be read back, whatever the site's default is
            "Config": {"max-size": f"{LOG_FILE_MIB}m", "max-file": str(LOG_FILES)},
        },
        "Tmpfs": dict.fromkeys(_scratch(job), "rw,nosuid,nodev,exec,mode=1777"),
        "Mounts": [_mount(mount) for mount in job.mounts],
    }
    if job.gpus:
        config["DeviceRequests"] = [{"Driver": "", "Count": job.gpus, "Capabilities": [["gpu"]]}]
    return config


def _scratch(job: MapJob) -> list[str]:
    """Folders in memory that the application may write to: /tmp, and its logs where it has a folder for them."""
    logs = job.environment.get("HOLOSCAN_LOGS_PATH", "").rstrip("/")
    own = [logs] if logs.startswith("/var/") and not _covers_a_mount(job, logs) else []
    return ["/tmp", *own, *job.scratch]


def _covers_a_mount(job: MapJob, path: str) -> bool:
    return any(f"{mount.target}/".startswith(f"{path}/") or path.startswith(mount.target) for mount in job.mounts)


def _mount(mount: Mount) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(mount.source), "Target": mount.target, "ReadOnly": mount.read_only}


def _check_readable(job: MapJob, user: str) -> None:
    """Say beforehand what the application would only report as a strange failure."""
    uid = user.partition(":")[0]
    if not uid.isdigit() or int(uid) in (0, os.getuid()):
        return
    for mount in job.mounts:
        if mount.read_only and mount.source.stat().st_mode & 0o005 != 0o005:
            raise MapError(
                f"The input folder {mount.source} is closed to user {uid}, which the container runs as. Set [monai] "
                "container_user to the owner of the store, or give the worker and the gateway the umask 022."
            )
