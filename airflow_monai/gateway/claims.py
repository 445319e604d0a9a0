"""Takes files of a folder for one process alone, so that a kill at any moment leaves them where they are found again.

What is taken is renamed into ``.claimed-<id>/content`` beside it, whose lock its owner holds as long as it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

_CLAIMED, _NEW = ".claimed-", ".new-"


class Claim:
    """Files that this process has taken.

    :param resumed: they were taken by a process that is gone, which may have done a part of its work.
    """

    def __init__(self, folder: Path, lock: IO[str], resumed: bool):
        self.folder = folder
        self.resumed = resumed
        self.content = folder / "content"
        self.claim_id = folder.name.removeprefix(_CLAIMED)
        self._lock = lock

    def items(self) -> list[Path]:
        """What was taken and is still there, by name."""
        return sorted(self.content.iterdir()) if self.content.is_dir() else []

    def remove(self) -> None:
        """The work is done: what is left of the files goes with the claim, and its lock last: whoever finds files
        without one takes them for left behind."""
        shutil.rmtree(self.content, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def release(self) -> None:
        """Leave it to whoever comes next."""
        self._lock.close()


def claim(place: Path, items: Iterable[Path]) -> Claim | None:
    """Take files and folders that lie in ``place``; None when another process took all of them first.

    :raises OSError: when they cannot be renamed.
    """
    name = uuid.uuid4().hex
    making, folder = place / f"{_NEW}{name}", place / f"{_CLAIMED}{name}"
    (making / "content").mkdir(parents=True)
    lock = open(making / "lock", "w")  # noqa: SIM115 - held as long as the claim
    made = Claim(folder, lock, resumed=False)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.rename(folder)  # it is never seen without being locked
        for item in items:
            with contextlib.suppress(FileNotFoundError):
                os.rename(item, made.content / item.name)
        if made.items():
            return made
    except BaseException:
        if folder.exists() and made.items():
            made.release()  # what it has taken already is found again
        else:
            shutil.rmtree(making, ignore_errors=True)
            made.remove()
        raise
    made.remove()
    return None


def abandoned(place: Path) -> Iterator[Claim]:
    """Claims in ``place`` whose owner is gone; they are this process's from now on."""
    with os.scandir(place) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith((_CLAIMED, _NEW)))
    for name in names:
        folder = place / name
        if folder.is_symlink() or (folder / "content").is_symlink():
            continue  # no gateway made it: what it points at is not this folder's
        try:
            lock = open(folder / "lock", "r+")  # noqa: SIM115 - held as long as the claim
        except OSError:
            if not name.startswith(_NEW):
                _restore_lock(folder)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        if not (folder / "lock").exists():  # its owner has just removed it
            lock.close()
        elif name.startswith(_NEW) or not (folder / "content").is_dir():  # it was not made whole, or is almost removed
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()
        else:
            yield Claim(folder, lock, resumed=True)


def _restore_lock(folder: Path) -> None:
    """A claim that was removed half, lock first, is found again with the next look if anything is left in it."""
    content = folder / "content"
    with contextlib.suppress(OSError):
        if content.is_dir() and any(content.iterdir()):
            (folder / "lock").touch()
        else:
            shutil.rmtree(folder, ignore_errors=True)
