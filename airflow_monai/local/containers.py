"""Containers that the tasks of a stack left behind when they were killed."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any


def remove_containers(store: str | None) -> int:
    """Remove every container that mounts a folder of this store; returns how many. No engine, no containers."""
    if not store:
        return 0
    try:
        import docker
        from docker.errors import DockerException
        from requests import RequestException
    except ImportError:
        return 0
    try:
        engine = docker.from_env(timeout=20)
    except (DockerException, RequestException, OSError):
        return 0
    removed = 0
    try:
        for container in engine.containers.list(all=True, ignore_removed=True):
            if _mounts(container.attrs, PurePosixPath(store)):
                container.remove(force=True)
                removed += 1
    except (DockerException, RequestException, OSError):
        pass  # the engine went away, or somebody else removed it
    finally:
        engine.close()
    return removed


def _mounts(attributes: dict[str, Any], store: PurePosixPath) -> bool:
    sources = [PurePosixPath(mount.get("Source") or "/") for mount in attributes.get("Mounts") or ()]
    return any(source == store or store in source.parents for source in sources)
