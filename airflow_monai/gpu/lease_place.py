"""Whether a folder can hold the leases of a host: one that all of its workers share, in containers or not, and no other
host. The kernel's table of mounts tells (proc(5), mountinfo)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_REMOTE = (
    *("nfs", "cifs", "smb", "9p", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "afs", "ocfs2", "gfs2"),
    *("virtiofs", "orangefs", "pvfs2", "wekafs", "fuse."),
)
"""Beginnings of the types of file systems that other hosts, or other machines on this one, may have too."""

_LAYERED = ("overlay", "aufs", "fuse.fuse-overlayfs", "unionfs")
_MEMORY = ("tmpfs", "ramfs")
_OF_ONE_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""The id of a container's own layer, or of a volume without a name."""
_OF_ONE_POD = "kubernetes.io~empty-dir"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system.

    :param root: which of its folders is mounted.
    :param point: where.
    :param kind: its type.
    """

    root: str
    point: str
    kind: str

    def holds(self, path: str) -> bool:
        return path == self.point or path.startswith(self.point.rstrip("/") + "/")


def unfit(path: Path) -> str:
    """Why the leases of a host cannot be in this folder; empty where they can, or where nobody can tell."""
    mounts = mounts_here()
    mount = mount_of(str(path.resolve()), mounts)
    return _unfit(mount, _in_container(mounts)) if mount else ""


def _unfit(mount: Mount, in_container: bool) -> str:
    # those of layers first: some are FUSE
    if mount.kind in _LAYERED:
        return _private(f"in a container's own layer of files ({mount.kind})")
    if mount.kind.startswith(_REMOTE):
        return (
            f"on a network file system ({mount.kind}): other hosts would share it. Set [monai] gpu_lease_folder to a "
            "folder on a disk of this host"
        )
    if _OF_ONE_POD in mount.root:
        return _private("in a volume of this pod alone (emptyDir)")
    if _OF_ONE_CONTAINER.search(mount.root):
        return _private("in a layer or a volume of this container alone")
    if in_container and mount.kind in _MEMORY and mount.root == "/":
        return _private(f"in the memory of this container ({mount.kind})")
    return ""


def _private(where: str) -> str:
    return (
        f"{where}: other workers of this host would not see it and give the same cards away, and the leases would be "
        "gone with the container while its jobs go on. Mount a folder of the host's disk, or a named volume, into all "
        "worker containers of this host at the same place, and set [monai] gpu_lease_folder to it"
    )


def _in_container(mounts: Iterable[Mount]) -> bool:
    return any(mark.exists() for mark in _CONTAINER_MARKS) or any(
        mount.point == "/" and mount.kind in _LAYERED for mount in mounts
    )


@cache
def mounts_here() -> tuple[Mount, ...]:
    """All mounts that this process sees; none where that cannot be told."""
    try:
        return parse_mounts(MOUNTS.read_text())
    except OSError:
        return ()


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """The lines of a mountinfo, the later of two at one place over the earlier."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) > 4 and right:
            found.append(Mount(_plain(fields[3]), _plain(fields[4]), right.split()[0]))
    return tuple(found)


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that a path is on."""
    best = None
    for mount in mounts:
        if mount.holds(path) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _plain(text: str) -> str:
    r"""A path of the table, where blanks are ``\040`` and the like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
