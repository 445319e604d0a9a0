"""Folders in memory that an application may write to beside ``/tmp``, whatever engine runs it."""

from __future__ import annotations

from airflow_monai.maps.runners.base import MapJob


def scratch_folders(job: MapJob) -> list[str]:
    """For its logs, where it has a folder for them that is not part of a mount, and what the task names."""
    logs = job.environment.get("HOLOSCAN_LOGS_PATH", "").rstrip("/")
    targets = [mount.target for mount in job.mounts]
    covers = any(_is_within(target, logs) or _is_within(logs, target) for target in targets)
    own = [logs] if logs.startswith("/var/") and not covers else []
    return [path for path in (*own, *job.scratch) if path != "/tmp"]


def _is_within(path: str, top: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{top.rstrip('/')}/")
