"""A real file system of a few megabytes, for what happens when a disk is full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """The folder, made if need be, on a file system of its own; in CI (REQUIRE_REAL_PARTS=1) that must be possible.

    :param size: as ``mount`` takes it, ``2m`` for two mebibytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        reason = "needs to mount a small file system, which only root may"
        if os.environ.get("REQUIRE_REAL_PARTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
