"""Files that are sent to a server while they are read: any number of any size, with progress."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_monai.cli.progress import Progress
from airflow_monai.client.server import Server
from airflow_monai.errors import MonaiError

_BLOCK = 1 << 20
_ANSWER_SECONDS = 3600.0
"""A large upload may take its time to be put into a bucket."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A file to upload.

    :param name: as the server is told, relative to what was named on the command line.
    """

    path: Path
    name: str
    size: int


def upload(server: Server, path: str, paths: Iterable[str], name: str = "", **params: Any) -> Any:
    """Send files, folders and zip archives as one form; what the server answers.

    :param path: of the route.
    :param name: of what is uploaded, for people.
    :param params: of the query.
    :raises MonaiError: when a file cannot be read, or there is none.
    :raises ServerRefused: with what is wrong with which file.
    """
    files = list(_files(paths))
    if not files:
        raise MonaiError("There is no file in what is named.")
    progress = Progress(sys.stderr)
    form = _Form(files, name, progress)
    try:
        return server.call(
            "POST",
            path,
            content=form.pieces(),
            kind=f"multipart/form-data; boundary={form.boundary}",
            length=form.length,
            seconds=_ANSWER_SECONDS,
            **params,
        )
    finally:
        progress.clear()


def tell_left_out(made: dict[str, Any]) -> None:
    """On stderr, which files were not taken."""
    for item in made["refused"]:
        print(f"refused: {item['name']}: {item['reason']}", file=sys.stderr)
    for passed in made["passed_over"]:
        print(f"passed over, no image: {passed}", file=sys.stderr)


def _files(paths: Iterable[str]) -> Iterator[Sent]:
    """The plain files that are named, and those below the folders that are; links are not followed there."""
    for name in paths:
        path = Path(name)
        try:
            if path.is_dir():
                for top, folders, names in os.walk(path, onerror=_raise):
                    folders.sort()
                    below = (Path(top, one) for one in sorted(names))
                    yield from (
                        Sent(one, one.relative_to(path).as_posix(), one.stat().st_size)
                        for one in below
                        if one.is_file() and not one.is_symlink()
                    )
            else:
                yield Sent(path, path.name, path.stat().st_size)
        except OSError as error:
            raise MonaiError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error


def _raise(error: OSError) -> None:
    raise error


class _Form:
    """A form with files, made while it is sent.

    :ivar length: in bytes, which tells the server beforehand whether it is too large.
    """

    def __init__(self, files: Sequence[Sent], name: str, progress: Progress):
        self.boundary = uuid.uuid4().hex
        self._files, self._progress = files, progress
        self._name = name
        self._end = f"--{self.boundary}--\r\n".encode()
        self.length = len(self._field()) + len(self._end) + sum(len(self._head(f)) + f.size + 2 for f in files)

    def pieces(self) -> Iterator[bytes]:
        """:raises MonaiError: when a file cannot be read, or is another one than it was."""
        yield self._field()
        sent, total = 0, max(1, sum(file.size for file in self._files))
        for number, file in enumerate(self._files, 1):
            yield self._head(file)
            left = file.size
            try:
                with open(file.path, "rb") as opened:
                    while left and (piece := opened.read(min(_BLOCK, left))):
                        left -= len(piece)
                        sent += len(piece)
                        yield piece
                        self._progress.tell(f"{100 * sent // total} %, file {number} of {len(self._files)}")
            except OSError as error:
                raise MonaiError(f"{file.path} cannot be read: {error.strerror or error}.") from error
            if left:
                raise MonaiError(f"{file.path} has become shorter while it was sent.")
            yield b"\r\n"
        yield self._end

    def _head(self, file: Sent) -> bytes:
        name = file.name.replace("\\", "/").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        return (
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode(errors="replace")

    def _field(self) -> bytes:
        if not self._name:
            return b""
        head = f'--{self.boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n'
        return f"{head}{self._name}\r\n".encode(errors="replace")
