"""``airflow monai datasets``: the datasets of an Airflow, by its App Server API."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from airflow_monai.cli.progress import Progress
from airflow_monai.client.server import URL, Login, Server
from airflow_monai.errors import MonaiError, ServerRefused, SettingsError

OK, REFUSED = 0, 1
_BLOCK = 1 << 20
_LIST_PAGE = 1000
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


def server_of(url: str | None, user: str | None) -> Server:
    """
    :raises SettingsError: when nothing says where the server is, or who asks.
    """
    address = url or os.environ.get(URL, "")
    if not address:
        raise SettingsError(f"Say where Airflow's API server is: --url, or {URL}; as in http://localhost:8080.")
    return Server(address, "app-server", Login.of_environment(user or ""))


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
    except ServerRefused as error:
        progress.clear()
        return _refused(error, as_json, out)
    progress.clear()
    if as_json:
        _print_json(made, out)
        return OK
    for item in made["refused"]:
        print(f"refused: {item['name']}: {item['reason']}", file=sys.stderr)
    for passed in made["passed_over"]:
        print(f"passed over, no image: {passed}", file=sys.stderr)
    word = "Uploaded" if made["created_now"] else "It was there already:"
    print(f"{word} {made['id']}, {made['files']} files, {made['size']} bytes.", file=out)
    return OK


def run_list(server: Server, as_json: bool, out: TextIO) -> int:
    rows: list[dict[str, Any]] = []
    while True:
        page = server.call("GET", "/datasets", offset=len(rows), limit=_LIST_PAGE)
        rows += page["datasets"]
        if not page["datasets"] or len(rows) >= page["total"]:
            break
    if as_json:
        _print_json(rows, out)
        return OK
    shown = [[row["id"], row["created"][:19], str(row["files"]), str(row["size"]), row["name"]] for row in rows]
    _print_table([["ID", "CREATED", "FILES", "BYTES", "NAME"], *shown], out)
    return OK


def run_describe(server: Server, dataset_id: str, patient: bool, as_json: bool, out: TextIO) -> int:
    found = server.call("GET", f"/datasets/{dataset_id}", patient=str(patient).lower())
    pairs = server.call("GET", f"/datasets/{dataset_id}/associations")["associations"]
    found["maps"] = [pair["map"] for pair in pairs]
    if as_json:
        _print_json(found, out)
        return OK
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text}" for key, text in value.items() if text)
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if shown not in (None, ""):
            print(f"{name.replace('_', ' ')}: {shown}", file=out)
    return OK


def run_download(server: Server, dataset_id: str, target: str, out: TextIO) -> int:
    """Fetch all images as a zip archive; a transfer that breaks off leaves no file of that name."""
    path = Path(target or f"{dataset_id}.zip")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    progress, size = Progress(sys.stderr), 0
    try:
        with open(part, "xb") as file:
            for piece in server.stream(f"/datasets/{dataset_id}/content"):
                size += file.write(piece)
                progress.tell(f"{size >> 20} MiB")
        os.replace(part, path)
    except OSError as error:
        raise MonaiError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        progress.clear()
        part.unlink(missing_ok=True)
    print(f"{path}: {size} bytes", file=out)
    return OK


def run_delete(server: Server, dataset_id: str, with_results: bool, out: TextIO) -> int:
    server.call("DELETE", f"/datasets/{dataset_id}", with_results=str(with_results).lower())
    print(f"Deleted {dataset_id}.", file=out)
    return OK


def run_associate(server: Server, dataset_id: str, maps: Sequence[str], undo: bool, out: TextIO) -> int:
    """Keep, or undo, that MAPs are to work on a dataset."""
    for label in maps:
        server.call("DELETE" if undo else "PUT", f"/datasets/{dataset_id}/associations/{label}")
        print(f"{'No longer associated' if undo else 'Associated'}: {dataset_id} and {label}.", file=out)
    return OK


def _refused(error: ServerRefused, as_json: bool, out: TextIO) -> int:
    if as_json:
        _print_json({"error": str(error), "errors": list(error.errors)}, out)
        return REFUSED
    for item in error.errors:
        print(f"refused: {item.get('field', '')}: {item.get('message', '')}", file=sys.stderr)
    print(f"error: {error}", file=sys.stderr)
    return REFUSED


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


def _print_table(rows: Sequence[Sequence[str]], out: TextIO) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


def _print_json(value: object, out: TextIO) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False), file=out)
