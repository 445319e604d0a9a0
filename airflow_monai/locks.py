"""Locks of the kernel on files, by which processes of a host know that another one lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def is_locked(file: Path, *, unknown: bool | None = None) -> bool:
    """Whether a process holds the lock of a file; not where there is no such file.

    It is looked at for an instant through a lock of its own, which needs no more than the right to read.

    :param unknown: the answer where the file cannot be opened; None to raise why.
    :raises OSError: where it cannot be opened, and there is no answer for that.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        if unknown is None:
            raise
        return unknown
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
