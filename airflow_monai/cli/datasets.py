"""``airflow monai datasets``: the datasets of an Airflow, by its App Server API."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from airflow_monai.cli.printing import print_json, print_table
from airflow_monai.cli.progress import Progress
from airflow_monai.cli.remote.fetching import fetch
from airflow_monai.client.server import Server, place
from airflow_monai.errors import MonaiError

OK = 0
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


def run_upload(server: Server, paths: Sequence[str], name: str, partial: bool, as_json: bool, out: TextIO) -> int:
    """Upload files, folders and zip archives as one dataset."""
    files = list(_files(paths))
    if not files:
        raise MonaiError("There is no file in what is named.")
    progress = Progress(sys.stderr)
    form = _Form(files, name, progress)
    try:
        made = server.call(
            "POST",
            "/datasets",
            content=form.pieces(),
            kind=f"multipart/form-data; boundary={form.boundary}",
            length=form.length,
            seconds=_ANSWER_SECONDS,
            partial=str(partial).lower(),
        )
    finally:
        progress.clear()
    if as_json:
        print_json(made, out)
        return OK
    for item in made["refused"]:
        print(f"refused: {item['name']}: {item['reason']}", file=sys.stderr)
    for passed in made["passed_over"]:
        print(f"passed over, no image: {passed}", file=sys.stderr)
    word = "Uploaded" if made["created_now"] else "It was there already:"
    print(f"{word} {made['id']}, {made['files']} files, {made['size']} bytes.", file=out)
    return OK


def run_list(server: Server, as_json: bool, out: TextIO) -> int:
    rows = server.listed("/datasets", "datasets")
    if as_json:
        print_json(rows, out)
        return OK
    shown = [[row["id"], row["created"][:19], str(row["files"]), str(row["size"]), row["name"]] for row in rows]
    print_table([["ID", "CREATED", "FILES", "BYTES", "NAME"], *shown], out)
    return OK


def run_describe(server: Server, dataset_id: str, patient: bool, as_json: bool, out: TextIO) -> int:
    found = server.call("GET", place("datasets", dataset_id), patient=str(patient).lower())
    pairs = server.call("GET", f"{place('datasets', dataset_id)}/associations")["associations"]
    found["maps"] = [pair["map"] for pair in pairs]
    if as_json:
        print_json(found, out)
        return OK
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text}" for key, text in value.items() if text)
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if shown not in (None, ""):
            print(f"{name.replace('_', ' ')}: {shown}", file=out)
    return OK


def run_download(server: Server, dataset_id: str, target: str, as_json: bool, out: TextIO) -> int:
    """Fetch all images as a zip archive; a transfer that breaks off leaves no file of that name."""
    path = Path(target or f"{dataset_id}.zip")
    size = fetch(server, f"{place('datasets', dataset_id)}/content", path)
    if as_json:
        print_json({"file": str(path), "size": size}, out)
    else:
        print(f"{path}: {size} bytes", file=out)
    return OK


def run_delete(server: Server, dataset_id: str, with_results: bool, as_json: bool, out: TextIO) -> int:
    server.call("DELETE", place("datasets", dataset_id), with_results=str(with_results).lower())
    if as_json:
        print_json({"id": dataset_id}, out)
    else:
        print(f"Deleted {dataset_id}.", file=out)
    return OK


def run_associate(server: Server, dataset_id: str, maps: Sequence[str], undo: bool, as_json: bool, out: TextIO) -> int:
    """Keep, or undo, that MAPs are to work on a dataset."""
    for label in maps:
        server.call("DELETE" if undo else "PUT", place("datasets", dataset_id, "associations", label))
        if not as_json:
            print(f"{'No longer associated' if undo else 'Associated'}: {dataset_id} and {label}.", file=out)
    if as_json:
        print_json({"id": dataset_id, "maps": list(maps), "associated": not undo}, out)
    return OK


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
