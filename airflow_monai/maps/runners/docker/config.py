"""A job as the Docker engine's API wants it: what the container may use, see and do."""

from __future__ import annotations

import os
from typing import Any

from airflow_monai.maps.policy import NO_NETWORK
from airflow_monai.maps.runners.base import MapJob, Mount, with_deadline
from airflow_monai.maps.runners.folders import default_user
from airflow_monai.maps.runners.scratch import scratch_folders
from airflow_monai.maps.runners.visible_cards import with_visible_cards

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
    return {
        "Image": job.found.location,
        # not the image's own entry point: that one exits 0 when the application fails
        "Entrypoint": [job.command[0]],
        "Cmd": list(job.command[1:]),
        "Env": [f"{name}={value}" for name, value in _environment(job).items()],
        "WorkingDir": job.found.manifest.working_directory,
        "User": job.user or default_user(""),
        "Labels": with_deadline(job),
        "NetworkDisabled": job.confinement.network == NO_NETWORK,
        "HostConfig": _host_config(job, local_engine),
    }


def is_made_for(container: dict[str, Any], job: MapJob) -> bool:
    """Whether a container was made of the job's image, and with the cards that the job has now."""
    return container["Image"] == job.found.location and has_cards(container, job)


def has_cards(container: dict[str, Any], job: MapJob) -> bool:
    """Whether a container was made with the cards that the job has now."""
    requests = container["HostConfig"].get("DeviceRequests") or ()
    return [id_ for request in requests for id_ in request.get("DeviceIDs") or ()] == list(job.devices)


def _environment(job: MapJob) -> dict[str, str]:
    """The job's, and last of all which cards the container sees, whatever image and workflow say of that."""
    return {"HOME": "/tmp", **with_visible_cards({**job.environment, **job.secrets}, job)}


def _host_config(job: MapJob, local_engine: bool) -> dict[str, Any]:
    resources, confinement = job.resources, job.confinement
    cores = min(resources.cpu, os.cpu_count() or 1) if local_engine else resources.cpu
    config: dict[str, Any] = {
        "NetworkMode": confinement.network,
        "IpcMode": "private",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(confinement.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": confinement.pids,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],  # a crash leaves no copy of its memory behind
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
        "Tmpfs": dict.fromkeys(["/tmp", *scratch_folders(job)], "rw,nosuid,nodev,exec,mode=1777"),
        "Mounts": [_mount(mount) for mount in job.mounts],
    }
    if job.devices:
        config["DeviceRequests"] = [{"Driver": "", "DeviceIDs": list(job.devices), "Capabilities": [["gpu"]]}]
    elif job.gpus:
        config["DeviceRequests"] = [{"Driver": "", "Count": job.gpus, "Capabilities": [["gpu"]]}]
    return config


def _mount(mount: Mount) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(mount.source), "Target": mount.target, "ReadOnly": mount.read_only}
