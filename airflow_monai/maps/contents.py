"""What a folder with an unpacked MAP holds, as one hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from airflow_monai.errors import ManifestError

MAX_FILES = 100_000
WHOLE_BYTES = 8 * 1024 * 1024
"""Files up to this size count with their content; of larger ones, such as models, both ends and the size count."""

_END_BYTES = 64 * 1024
_SKIPPED = frozenset({"__pycache__", ".git"})


def folder_digest(folder: Path) -> str:
    """``files-sha256:`` and a hash of the names, sizes and contents of all files below a folder.

    Cheap enough for every run: of a large file only both ends are read.

    :raises ManifestError: when a file cannot be read, or there are too many.
    """
    total = hashlib.sha256()
    count = 0
    try:
        for path in _files(folder):
            count += 1
            if count > MAX_FILES:
                raise ManifestError(f"{folder} holds more than {MAX_FILES} files: it is hardly the folder of a MAP.")
            name = os.fsencode(path.relative_to(folder).as_posix())
            total.update(b"%d %s\n%s\n" % (len(name), name, _digest(path).encode()))
    except OSError as error:
        raise ManifestError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from error
    return f"files-sha256:{total.hexdigest()}"


def _files(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for top, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        yield from (Path(top) / name for name in sorted(names) if not name.endswith(".pyc"))


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link {os.readlink(path)!a}"
    if not path.is_file():
        return "special"
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            return f"{size} {hashlib.sha256(file.read()).hexdigest()}"
        ends = hashlib.sha256(file.read(_END_BYTES))
        file.seek(size - _END_BYTES)
        ends.update(file.read())
        return f"{size} {ends.hexdigest()}"
