"""Removes what an application has left, however it has left it."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def remove_content(folder: Path) -> None:
    """Empty a folder.

    Folders that are nested deeper than the system can name are no hindrance: what lies in them is moved up first.
    """
    while True:
        entries = list(os.scandir(folder))
        if not entries:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _flatten(Path(entry.path), folder)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)


def remove_tree(folder: Path) -> None:
    """Remove a folder and what is in it; nothing when there is none."""
    try:
        remove_content(folder)
        folder.rmdir()
    except FileNotFoundError:
        return


def _flatten(folder: Path, top: Path) -> None:
    """Remove a folder, and leave the folders in it to whoever empties ``top``."""
    with contextlib.suppress(PermissionError):
        folder.chmod(0o700)  # its owner may have shut himself out
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(PermissionError):
                os.chmod(entry.path, 0o700)  # moving a folder writes to it
            os.rename(entry.path, top / f".removed-{uuid.uuid4().hex}")
        else:
            os.unlink(entry.path)
    folder.rmdir()
