"""The folders that an application writes to, and whom they belong to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_monai.errors import MapError
from airflow_monai.maps.removal import remove_content
from airflow_monai.maps.runners.base import MapJob


def default_user(configured: str) -> str:
    """``uid:gid`` for applications: the configured one, else the worker's own, or 1000:1000 for a root worker."""
    if configured:
        return configured
    return "1000:1000" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"


def empty_output(job: MapJob) -> None:
    """Make the job's output folder empty and writable for its user: what an earlier try left must not mix in."""
    make_output(job)
    with _preparing(job):
        remove_content(job.output)
    make_output(job)


def make_output(job: MapJob) -> None:
    """Create the job's output folder, and what of it is mounted, for its user."""
    writable = [mount.source for mount in job.mounts if not mount.read_only and mount.source != job.output]
    with _preparing(job):
        for folder in (job.output, *writable):
            make_folder(folder, job.user)


def make_folder(folder: Path, user: str) -> None:
    """Create a folder that a user may write to.

    :param user: ``uid:gid``; any other text leaves the folder as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid, _, gid = user.partition(":")
    if not uid.isdigit() or int(uid) == folder.stat().st_uid:
        return
    if os.getuid() == 0:
        os.chown(folder, int(uid), int(gid) if gid.isdigit() else -1)
    else:
        _open_to_all(folder)


def _open_to_all(folder: Path) -> None:
    """Only root may give a folder away, so everybody may write to this one, and its parent lets no stranger through.

    An engine mounts the folder itself; who runs in the container needs no way to it from above.
    """
    folder.parent.chmod(stat.S_IMODE(folder.parent.stat().st_mode) & ~stat.S_IRWXO)
    folder.chmod(0o777)


@contextmanager
def _preparing(job: MapJob) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MapError(f"The output folder {job.output} cannot be prepared: {error.strerror or error}.") from error
