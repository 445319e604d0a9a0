"""Files of a server: a transfer that breaks off leaves no file of that name."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_monai.cli.progress import Progress
from airflow_monai.client.server import Server, place
from airflow_monai.errors import MonaiError


def fetch(server: Server, path: str, target: Path, progress: Progress | None = None, before: str = "") -> int:
    """Fetch one file, its folder too where there is none.

    :param before: what the progress says before the size.
    :return: its size in bytes.
    :raises MonaiError: when it cannot be written.
    """
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    shown, size = progress or Progress(sys.stderr), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            for piece in server.stream(path):
                size += file.write(piece)
                shown.tell(f"{before}{size >> 20} MiB")
        os.replace(part, target)
    except OSError as error:
        raise MonaiError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        shown.clear()
        part.unlink(missing_ok=True)
    return size


def fetch_all(server: Server, path: str, files: Iterable[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Fetch the files of a list into a folder, by the names that they have there.

    :param path: of the list; that of a file has its number after it.
    :param files: number and name of each.
    :return: file and size of each, as it is here.
    """
    progress, listed = Progress(sys.stderr), list(files)
    targets = [below(folder, file["name"]) for file in listed]
    fetched = []
    for number, (file, target) in enumerate(zip(listed, targets, strict=True), 1):
        size = fetch(server, path + place(str(file["number"])), target, progress, f"file {number} of {len(listed)}, ")
        fetched.append({"file": str(target), "size": size})
    return fetched


def below(folder: Path, name: str) -> Path:
    """Where a file of this name lies in a folder.

    :raises MonaiError: when the name leads out of it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise MonaiError(f"The server names a file {name!r}, which would lie elsewhere: nothing was fetched.")
    return folder.joinpath(*path.parts)
