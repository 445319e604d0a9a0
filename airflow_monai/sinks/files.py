"""What sinks read of the files that they send."""

from __future__ import annotations

import hashlib
from pathlib import Path

from airflow_monai.errors import ExportError

_BLOCK = 1 << 20


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex; :class:`ExportError` when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise unreadable(error) from error
    return digest.hexdigest()


def unreadable(error: OSError) -> ExportError:
    """The error of a file that cannot be read; its name may be a patient's."""
    return ExportError(f"A file to be sent cannot be read ({error.strerror or error}).")


def became_shorter() -> ExportError:
    return ExportError("A file to be sent became shorter while it was sent.")
