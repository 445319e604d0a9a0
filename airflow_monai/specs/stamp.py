"""What tells that a file changed, without reading it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

SETTLED_SECONDS = 2.0
"""A file changed more recently is read again: an edit within the clock's step can leave its time and size alone."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Times, size and inode of a file: an edit that keeps time and size (rsync -t, an unpacked archive) shows too."""

    modified: int = 0
    changed: int = 0
    size: int = 0
    inode: int = 0

    def settled(self) -> bool:
        """Whether an equal stamp later means equal content."""
        return time.time() - max(self.modified, self.changed) / 1e9 > SETTLED_SECONDS


def stamp_of(path: str | os.PathLike[str]) -> FileStamp:
    """The file's stamp now; :class:`OSError` when it cannot be had."""
    status = os.stat(path)
    return FileStamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
