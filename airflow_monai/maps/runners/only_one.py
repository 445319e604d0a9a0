"""One process at a time, on all hosts that share a folder: a lock that its holder's death frees."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from airflow_monai.errors import RunnerUnavailable

LOOK_SECONDS = 0.1


@contextlib.contextmanager
def only_one(file: Path, check: Callable[[], None], seconds: float = 60.0) -> Iterator[None]:
    """Hold the lock ``file`` for the block; the file may be removed by whoever knows that nobody needs it any more.

    :param check: called while somebody else holds it; what it raises ends the waiting.
    :raises RunnerUnavailable: when it is not free after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        fd = _opened(file)
        try:
            if _locked(fd, file):
                yield  # what goes wrong in the block is no trouble with the lock
                return
        finally:
            os.close(fd)
        check()
        if time.monotonic() > deadline:
            raise RunnerUnavailable(f"Another process has held the lock {file} for {seconds:g} s.")
        time.sleep(LOOK_SECONDS)


def _opened(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _no_lock(file, error) from error


def _locked(fd: int, file: Path) -> bool:
    """Whether this is the lock now: taken, and not of a file that was removed meanwhile."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(file))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        raise _no_lock(file, error) from error


def _no_lock(file: Path, error: OSError) -> RunnerUnavailable:
    return RunnerUnavailable(f"The lock {file} cannot be taken: {error.strerror or error}.")
