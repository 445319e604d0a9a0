"""Zip archives that nobody vouches for: their members as streams, within bounds, and never as paths."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow_monai.errors import MonaiError
from airflow_monai.types import FailureKind

_RATIO_FROM_BYTES = 64 << 20
_TAIL = 22 + 65_535 + 20  # end of central directory, the longest comment, zip64 locator (APPNOTE 4.3.15, 4.3.16)
_DIRECTORY_BYTES_PER_FILE = 1024


class ArchiveRefused(MonaiError):
    """An archive is damaged, or beyond what is unpacked here."""

    failure = FailureKind.INVALID


class Unreadable(MonaiError):
    """One file cannot be read; those beside it may be."""

    failure = FailureKind.INVALID


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What is unpacked at most.

    :param ratio: of unpacked to packed bytes; it counts from 64 MiB on.
    """

    files: int = 100_000
    file_bytes: int = 16 << 30
    total_bytes: int = 512 << 30
    ratio: int = 250


class Member:
    """A file of an archive, to be read once and in order.

    :param name: as the archive says it: for people, never a path.
    """

    def __init__(self, name: str, stream: IO[bytes], budget: _Budget):
        self.name = name
        self._stream = stream
        self._budget = budget
        self._read = 0

    def read(self, size: int) -> bytes:
        """
        :raises Unreadable: when it is damaged.
        :raises ArchiveRefused: when it, or the archive, is larger than allowed.
        """
        try:
            data = self._stream.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise Unreadable(f"the archive is damaged here ({type(error).__name__})") from None
        self._read += len(data)
        self._budget.spend(len(data), self._read)
        return data


class _Budget:
    """What may still be unpacked of an archive."""

    def __init__(self, limits: ArchiveLimits, packed: int):
        self._limits = limits
        self._packed = packed
        self._total = 0

    def spend(self, size: int, of_file: int) -> None:
        self._total += size
        if of_file > self._limits.file_bytes:
            raise ArchiveRefused(f"a file in it is larger than {self._limits.file_bytes} bytes")
        if self._total > self._limits.total_bytes:
            raise ArchiveRefused(f"it unpacks to more than {self._limits.total_bytes} bytes")
        if self._total > _RATIO_FROM_BYTES and self._total > self._packed * self._limits.ratio:
            raise ArchiveRefused(f"it unpacks to more than {self._limits.ratio} times its size")


def is_zip(head: bytes) -> bool:
    """Whether a file that begins so is a zip archive."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def members(archive: Path, limits: ArchiveLimits = ArchiveLimits()) -> Iterator[Member | tuple[str, str]]:
    """The files of an archive, one after the other; of those that are none for us, the name and why.

    :raises ArchiveRefused: at any time.
    """
    size = _check_directory(archive, limits)
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ArchiveRefused(f"it is no zip archive that can be read ({type(error).__name__})") from None
    with opened:
        infos = opened.infolist()
        if sum(info.compress_size for info in infos) > size:
            raise ArchiveRefused("its files overlap one another")
        budget = _Budget(limits, size)
        for info in infos:
            if info.filename.endswith("/"):  # a folder; is_dir() raises where there is no name at all
                continue
            if problem := _problem(info):
                yield info.filename, problem
                continue
            try:
                stream = opened.open(info)
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
                yield info.filename, f"the archive is damaged here ({type(error).__name__})"
                continue
            with stream:
                yield Member(info.filename, stream, budget)


def _problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "it is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks these by all that it has read at a time: some hundred bytes become gigabytes of memory
        return "it is compressed otherwise than by deflate"
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind == stat.S_IFLNK:
        return "it is a link"
    return "" if kind in (0, stat.S_IFREG) else "it is no regular file"


def _check_directory(archive: Path, limits: ArchiveLimits) -> int:
    """The archive's size; refused when its directory alone, which is read whole, would be too large."""
    try:
        with open(archive, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            tail = file.read(_TAIL)
            at = tail.rfind(b"PK\x05\x06")
            if at < 0 or len(tail) - at < 22:
                raise ArchiveRefused("it is no whole zip archive: it has no directory at its end")
            count, length = struct.unpack_from("<HL", tail, at + 10)
            locator = tail[at - 20 : at] if at >= 20 else b""
            if locator.startswith(b"PK\x06\x07"):
                # zipfile takes the record right before the locator, wherever that points
                record_at = size - len(tail) + at - 20 - 56
                if record_at < 0 or struct.unpack_from("<Q", locator, 8)[0] != record_at:
                    raise ArchiveRefused("its directory is not where it says")
                file.seek(record_at)
                record = file.read(56)
                if len(record) == 56 and record.startswith(b"PK\x06\x06"):
                    count, length = struct.unpack_from("<QQ", record, 32)
    except (OSError, OverflowError, ValueError) as error:
        raise ArchiveRefused(f"it cannot be read ({type(error).__name__})") from None
    if count > limits.files or length > limits.files * _DIRECTORY_BYTES_PER_FILE:
        raise ArchiveRefused(f"it has more than {limits.files} files")
    return size
