"""Who a container's files belong to on the host, and whether its user can do its work there, found out beforehand.

What goes wrong here would otherwise be told by the application, as a strange failure after minutes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError
from airflow_monai.maps.removal import remove_tree
from airflow_monai.maps.runners.base import MapJob
from airflow_monai.maps.runners.folders import default_user, empty_output, make_output

LOOKED_AT = 50
"""Files of an input that are looked at: those of one study are written alike."""

_REMAPPED = re.compile(r"/(\d+)\.(\d+)/*\Z")


def user_shift(info: Mapping[str, Any]) -> tuple[int, int]:
    """What an engine adds to the user and the group of a container to get those of the host.

    :param info: what it says of itself. One that maps users keeps its data below a folder named after their first.
    """
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    if not any(option.startswith("name=userns") for option in options):
        return 0, 0
    found = _REMAPPED.search(str(info.get("DockerRootDir") or ""))
    if not found:
        raise MapError(
            "This Docker engine maps the users of containers to others of the host (userns-remap), and does not say to "
            "which. Run it without userns-remap, or set [monai] runner to another."
        )
    return int(found[1]), int(found[2])


def on_host(job: MapJob, info: Mapping[str, Any]) -> MapJob:
    """The job with the user that its container's is on the host."""
    uid, gid = _numbers(job.user or default_user(""))
    if uid is None:
        return job
    shift, group_shift = user_shift(info)
    return replace(job, user=f"{uid + shift}:{(gid or 0) + group_shift}")


def prepare_output(job: MapJob, *, empty: bool, clear: Callable[[], None] | None = None) -> None:
    """Make the output folder for the job's user on the host.

    :param clear: removes as the job's user what only that one may remove.
    :raises MapError: when that user could not write to it; the message names the mending.
    """
    make = empty_output if empty else make_output
    try:
        make(job)
    except MapError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        owner = _foreign_owner(job.output)
        if owner is None:
            raise _not_to_be_given(job) from error
        _clear(job, owner, clear)
        make(job)
    _check_writable(job)


def remove_output(job: MapJob, clear: Callable[[], None] | None = None) -> None:
    """Remove the output folder.

    :param clear: as of :func:`prepare_output`.
    """
    try:
        remove_tree(job.output)
    except PermissionError:
        _clear(job, _foreign_owner(job.output) or -1, clear)
        remove_tree(job.output)


def _clear(job: MapJob, owner: int, clear: Callable[[], None] | None) -> None:
    """Remove what a container's user has made in folders of its own, which only that user and root may do."""
    problem: MapError | None = None
    try:
        if clear is not None:
            make_output(job)
            if job.output.stat().st_uid == os.getuid():
                job.output.chmod(0o777)  # the folder above it is closed to strangers
            clear()
            return
    except MapError as error:
        problem = error
    why = f" Removing them by a container of that user failed: {problem}" if problem else ""
    raise MapError(
        f"The output folder {job.output} holds files of user {owner}, which an earlier try has made and this worker, "
        f"which is user {os.getuid()}, may not remove. Remove them as root or as that user (rm -r {job.output}), and "
        f"set [monai] container_user to {os.getuid()}:{os.getgid()}, so that what containers make belongs to the "
        f"worker.{why}"
    ) from problem


def _foreign_owner(folder: Path) -> int | None:
    """The user, other than this worker's, of something in a folder; None where there is none."""
    try:
        found = (path.lstat().st_uid for path in _all_below(folder))
        return next((uid for uid in found if uid != os.getuid()), None)
    except OSError:
        return None


def _all_below(folder: Path) -> Iterator[Path]:
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(top, name)


def _not_to_be_given(job: MapJob) -> MapError:
    return MapError(
        f"The output folder {job.output} cannot be given to user {job.user}, which the container runs as: its file "
        "system does not let this worker do so (an NFS export with root_squash does not, nor one that is owned by "
        f"somebody else). Set [monai] container_user to the owner of {job.output.parent}, or run the worker as "
        "that user."
    )


def _check_writable(job: MapJob) -> None:
    uid, gid = _numbers(job.user)
    for folder in (mount.source for mount in job.mounts if not mount.read_only):
        if uid and not _may(folder.stat(), uid, gid, stat.S_IWOTH | stat.S_IXOTH):
            raise MapError(
                f"The output folder {folder} cannot be written by user {uid}, which the container runs as; it belongs "
                f"to user {folder.stat().st_uid}. Set [monai] container_user to that one."
            )


def check_readable(job: MapJob) -> None:
    """:class:`MapError` when the job's user on the host could not read its input."""
    uid, gid = _numbers(job.user)
    if not uid:
        return
    for mount in job.mounts:
        if not mount.read_only:
            continue
        for path in (mount.source, *islice(_below(mount.source), LOOKED_AT)):
            wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
            if not _may(path.stat(), uid, gid, wanted):
                what = "folder" if path.is_dir() else "file"
                where = mount.source if path == mount.source else f"a {what} in {mount.source}"
                raise MapError(
                    f"The input folder {where} is closed to user {uid}, which the container runs as. Set [monai] "
                    "container_user to the owner of the store, or give the worker and the gateway the umask 022."
                )


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in _all_below(folder) if not path.is_symlink())


def _may(status: os.stat_result, uid: int, gid: int | None, wanted: int) -> bool:
    """Whether a user has the rights that ``wanted`` names by the bits for others."""
    if status.st_uid == uid:
        wanted <<= 6
    elif status.st_gid == gid:
        wanted <<= 3
    return status.st_mode & wanted == wanted


def _numbers(user: str) -> tuple[int | None, int | None]:
    uid, _, gid = user.partition(":")
    return (int(uid) if uid.isdigit() else None, int(gid) if gid.isdigit() else None)
