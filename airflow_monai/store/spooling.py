"""Reads files that nobody vouches for into a spool folder: images become what the gateway would have kept of them, had
they come by C-STORE; all else is told apart and not kept.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from airflow_monai.errors import disk_error
from airflow_monai.store.archives import Unreadable
from airflow_monai.store.elements import DamagedDataSet
from airflow_monai.store.foreign import (
    HEAD_BYTES,
    Found,
    begins_as_dicom,
    check_whole,
    is_archive,
    problem_of_stranger,
    recognise,
)
from airflow_monai.store.part10 import NotIdentified, mapped

_FIRST_BYTES = 256 * 1024
"""The identity of nearly every image lies within these."""
_COPY_BYTES = 1 << 20
WRITTEN_BYTES = 16 << 20
"""How often it is told how far a file is."""


class Source(Protocol):
    """Bytes in order; fewer than asked for only at the end, or :class:`Unreadable`."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Spooled:
    """An image in the spool. Who has it removes the file."""

    found: Found
    path: Path


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was read is not kept.

    :param found: the image that it says it is, as far as that is known.
    """

    reason: str
    found: Found | None = None


class Stranger:
    """What was read is no image: the directory of a medium, a viewer, a text."""


STRANGER = Stranger()


class Spooler:
    """Safe for threads.

    :param folder: for the files; on the store's file system they need not be copied.
    :param written: is told of each 16 MiB of a file that are written, by its descriptor.
    """

    def __init__(self, folder: Path, written: Callable[[int], None] = lambda fd: None):
        self.folder = folder
        self.written = written

    def read(self, source: Source, name: str) -> Spooled | Refusal | Stranger:
        """Read a file to its end, or as far as is needed to tell that it is not kept.

        :param name: where it lay; its ending tells what it was meant to be.
        :raises StoreError: when the spool cannot be written.
        """
        path = self.folder / uuid.uuid4().hex
        found: Found | None = None
        try:
            kept = self._spool(source, path, name)
            if isinstance(kept, Found):
                found = kept
                with mapped(path) as data:
                    check_whole(data, len(found.meta), found.transfer_syntax)
                return Spooled(found, path)
        except (Unreadable, NotIdentified, DamagedDataSet) as error:
            kept = Refusal(str(error).rstrip("."), found)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)
        return kept

    def _spool(self, source: Source, path: Path, name: str) -> Found | Refusal | Stranger:
        first = read_up_to(source, _FIRST_BYTES)
        head = first[:HEAD_BYTES]
        if not begins_as_dicom(head):
            if is_archive(head):
                return Refusal("it is an archive that is not unpacked here")
            problem = problem_of_stranger(name, head)
            return Refusal(problem) if problem else STRANGER
        return self._copy(first, source, path) or STRANGER

    def _copy(self, first: bytes, source: Source, path: Path) -> Found | None:
        """Write the image as the gateway keeps it; None when it is none.

        :param first: what has been read of the source.
        """
        found: Found | None
        try:
            found = recognise(first)
        except (NotIdentified, DamagedDataSet):
            if len(first) < _FIRST_BYTES:
                raise
            return self._copy_long(first, source, path)  # an unusually long header
        if found is not None:
            write_spool(path, [found.meta, first[found.data_at :]], source, self.written)
        return found

    def _copy_long(self, first: bytes, source: Source, path: Path) -> Found | None:
        raw = path.with_suffix(".raw")
        try:
            write_spool(raw, [first], source)
            with mapped(raw) as data:
                found = recognise(data)
            if found is not None:
                with open(raw, "rb") as file:
                    file.seek(found.data_at)
                    write_spool(path, [found.meta], FileSource(file), self.written)
            return found
        finally:
            raw.unlink(missing_ok=True)


class FileSource:
    """An open file as a source."""

    def __init__(self, file: Any):
        self._file = file

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._file.read(size))
        except OSError as error:
            raise Unreadable(unreadable(error)) from error


def unreadable(error: OSError) -> str:
    return f"it cannot be read: {error.strerror or error}"


def read_up_to(source: Source, size: int) -> bytes:
    """So many bytes, fewer only at the end."""
    pieces: list[bytes] = []
    while size and (data := source.read(size)):
        pieces.append(data)
        size -= len(data)
    return b"".join(pieces)


def write_spool(path: Path, begin: list[bytes], rest: Source, written: Callable[[int], None] = lambda fd: None) -> None:
    """Write a new file of the spool.

    :param written: as :class:`Spooler` has it.
    :raises StoreError: when it cannot be written.
    """
    try:
        with open(path, "xb", buffering=0) as file:
            fd, since = file.fileno(), 0
            for data in begin:
                _write_all(fd, data)
            while data := rest.read(_COPY_BYTES):
                _write_all(fd, data)
                since += len(data)
                if since >= WRITTEN_BYTES:
                    written(fd)
                    since = 0
    except OSError as error:
        raise disk_error("The store's spool cannot be written", error) from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
