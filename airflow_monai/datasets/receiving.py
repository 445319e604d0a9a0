"""Takes in the files of one upload: each is told apart, bounded, and kept for what the upload is to become.

Nothing of it is in the store before its files are put there on purpose: what a killed process leaves is files in a
spool folder, which others remove.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, Generic, TypeVar

from airflow_monai.datasets.model import NewFile
from airflow_monai.errors import MonaiError, disk_error
from airflow_monai.store.archives import ArchiveLimits, ArchiveRefused, is_zip, members
from airflow_monai.store.foreign import Found
from airflow_monai.store.spooling import Refusal, Source, Spooled, Spooler, read_up_to, write_spool
from airflow_monai.types import FailureKind

_AT_A_TIME = 4
_BLOCK = 1 << 20
_LARGE_BYTES = 16 << 20
_NAMES_KEPT = 1000
MOST_REFUSED = 100
"""After so many refused files of an upload that is taken as a whole or not at all the rest is not looked at."""
TWICE = "another image of this upload has its SOP Instance UID"
_DRIVE = re.compile(r"[A-Za-z]:")
Kept = TypeVar("Kept")


class Why(Enum):
    """Why an upload is refused as a whole."""

    INVALID = "invalid"
    TOO_LARGE = "too-large"
    NO_SPACE = "no-space"


class UploadRefused(MonaiError):
    """An upload is not taken, and nothing of it is kept.

    :param refused: names of files and what is wrong with each.
    """

    failure = FailureKind.INVALID

    def __init__(self, why: Why, message: str, refused: tuple[tuple[str, str], ...] = ()):
        super().__init__(message)
        self.why = why
        self.refused = refused


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """
    :param max_bytes: of all that is sent, and of all that is unpacked of it.
    :param max_files: in one upload.
    :param max_ratio: of unpacked to packed bytes of an archive; it counts from 64 MiB on.
    """

    max_bytes: int
    max_files: int
    max_ratio: int

    def of_archive(self) -> ArchiveLimits:
        return ArchiveLimits(self.max_files, self.max_bytes, self.max_bytes, self.max_ratio)


@dataclass(frozen=True, slots=True)
class Taken(Generic[Kept]):
    """A file of an upload.

    :param name: as the sender calls it; for the sender's eyes only.
    :param found: the image that it is, as far as that is known.
    :param kept: what was made of it; None for one that is refused.
    :param reason: why it is refused.
    """

    name: str
    found: Found | None = None
    kept: Kept | None = None
    reason: str = ""


class Upload(Generic[Kept]):
    """The files of one upload, to be used in a ``with``: its folder is removed in the end.

    :param spool: folder of this process on the store's file system.
    :param keep: makes of an image in the spool what it is to be, or says why it is refused; it is called from several
        threads.
    :param check: raises where nothing more may be taken in; asked for each file, and each mebibyte of one.
    :param whole: the upload is taken as a whole or not at all.
    """

    def __init__(
        self,
        spool: Path,
        limits: UploadLimits,
        keep: Callable[[Spooled], Kept | str],
        check: Callable[[], None] = lambda: None,
        whole: bool = True,
    ):
        self._folder = spool / f"upload-{uuid.uuid4().hex}"
        self._limits = limits
        self._keep = keep
        self._check = check
        self._whole = whole
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="upload-keep")
        self._waiting: deque[tuple[str, Found, Future[Kept | str]]] = deque()
        self._taken: list[Taken[Kept]] = []
        self._count = 0
        self._bytes = 0
        self._flushing: Future[None] | None = None
        self._refused = 0
        self.passed_over: list[str] = []
        self.passed_over_count = 0

    def __enter__(self) -> Upload[Kept]:
        try:
            self._folder.mkdir()
        except OSError as error:
            raise disk_error("The store's spool cannot be written", error) from error
        self._spooler = Spooler(self._folder, self._flush_behind)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, source: Source, name: str) -> None:
        """Take an image; of a zip archive, all that is in it."""
        first = read_up_to(source, 4)
        if is_zip(first):
            self.archive(_Again(first, source), name)
        else:
            self.single(_Again(first, source), name)

    def single(self, source: Source, name: str) -> None:
        """Take a file that must be an image."""
        self._take(source, name, False)

    def archive(self, source: Source, name: str) -> None:
        """Take all that is in a zip archive. Archives within it are refused; what is no image is passed over.

        :raises UploadRefused: when the archive is damaged, or beyond the limits.
        """
        path = self._folder / f"{uuid.uuid4().hex}.zip"
        write_spool(path, [], _Checked(source, lambda size: self._check()))
        try:
            for member in members(path, self._limits.of_archive()):
                if isinstance(member, tuple):
                    self.refuse(f"{name}/{member[0]}", member[1])
                elif problem := _problem(member.name):
                    self.refuse(f"{name}/{member.name}", problem)
                else:
                    self._take(member, f"{name}/{member.name}", True)
        except ArchiveRefused as error:
            reason = str(error).rstrip(".")
            why = Why.TOO_LARGE if "larger than" in reason or "more than" in reason else Why.INVALID
            raise UploadRefused(why, f"The archive {name!r} is not unpacked: {reason}.") from None
        finally:
            path.unlink(missing_ok=True)

    def _take(self, source: Source, name: str, strangers: bool) -> None:
        self._check()
        self._count += 1
        if self._count > self._limits.max_files:
            raise UploadRefused(Why.TOO_LARGE, f"There are more than {self._limits.max_files} files in the upload.")
        read = self._spooler.read(_Checked(source, self._spend), name)
        if isinstance(read, Spooled):
            self._waiting.append((name, read.found, self._pool.submit(self._keep, read)))
            while len(self._waiting) > 2 * _AT_A_TIME:
                self._collect()
        elif isinstance(read, Refusal):
            self.refuse(name, read.reason, read.found)
        elif strangers:
            self.passed_over_count += 1
            if len(self.passed_over) < _NAMES_KEPT:
                self.passed_over.append(name)
        else:
            self.refuse(name, "it is no DICOM file (PS3.10)")

    def _flush_behind(self, fd: int) -> None:
        """Have the disk begin with a large file before that is whole, so that it has less to do at the end."""
        if self._flushing is not None:
            if not self._flushing.done():
                return
            _check_flushed(self._flushing)
        own = os.dup(fd)
        self._flushing = self._pool.submit(os.fdatasync, own)
        self._flushing.add_done_callback(lambda _: os.close(own))  # also when it never comes to it

    def _spend(self, size: int) -> None:
        self._check()
        self._bytes += size
        if self._bytes > self._limits.max_bytes:
            raise UploadRefused(Why.TOO_LARGE, f"The files are more than {self._limits.max_bytes} bytes in all.")

    def refuse(self, name: str, reason: str, found: Found | None = None) -> None:
        """Note that a file is not taken.

        :raises UploadRefused: when too many are not.
        """
        self._taken.append(Taken(name, found, reason=reason))
        self._refused += 1
        if self._whole and self._refused >= MOST_REFUSED:
            self.check_whole()

    def _collect(self) -> None:
        name, found, future = self._waiting.popleft()
        kept = future.result()
        if isinstance(kept, str):
            self.refuse(name, kept, found)
        else:
            self._taken.append(Taken(name, found, kept))

    def finish(self) -> list[Taken[Kept]]:
        """All files but those that were passed over.

        :raises UploadRefused: when the upload is taken as a whole or not at all, and one of them cannot be.
        """
        while self._waiting:
            self._collect()
        if self._flushing is not None:
            _check_flushed(self._flushing)
        if self._whole:
            self.check_whole()
        return self._taken

    def check_whole(self) -> None:
        """:raises UploadRefused: when a file was refused."""
        refused = tuple((item.name, item.reason) for item in self._taken if item.reason)
        if refused:
            what = "A file of the upload is" if len(refused) == 1 else f"{len(refused)} files of the upload are"
            raise UploadRefused(Why.INVALID, f"{what} refused, so nothing of it is taken.", refused)


class NewFiles:
    """Makes files for datasets of what is in the spool, and sees that each image is in them once."""

    def __init__(self) -> None:
        self._known: dict[str, NewFile] = {}
        self._lock = threading.Lock()

    def keep(self, spooled: Spooled) -> NewFile | str:
        """The file, durable and with its digest; a text that says why it is refused."""
        who = spooled.found.identity
        digest, size = _flushed(spooled.path)
        new = NewFile(spooled.path, f"dcm/{who.study}/{who.series}/{who.sop}.dcm", size, digest)
        with self._lock:
            first = self._known.setdefault(who.sop, new)
        if first is new:
            return new
        spooled.path.unlink(missing_ok=True)
        if (first.path, first.sha256) == (new.path, new.sha256):
            return first
        return TWICE

    def by_study(self) -> Iterator[tuple[str, list[NewFile]]]:
        """The files of each study."""
        studies: dict[str, list[NewFile]] = {}
        for new in self._known.values():
            studies.setdefault(new.study, []).append(new)
        yield from sorted(studies.items())

    def all(self) -> list[NewFile]:
        return list(self._known.values())


def _flushed(path: Path) -> tuple[str, int]:
    """Make a file durable; SHA-256 in hex, and size. Of a large one both are done at the same time."""
    try:
        return _flushed_and_hashed(path)
    except OSError as error:
        raise disk_error("The store's spool cannot be written", error) from error


def _flushed_and_hashed(path: Path) -> tuple[str, int]:
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size < _LARGE_BYTES:
            os.fsync(file.fileno())
            return _digest(file)
        with ThreadPoolExecutor(1, thread_name_prefix="upload-flush") as pool:
            flushing = pool.submit(os.fsync, file.fileno())
            digest = _digest(file)
            flushing.result()
        return digest


def _digest(file: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def _check_flushed(flushing: Future[None]) -> None:
    """An error of the disk is told once: to this descriptor, and not again when all of the file is flushed."""
    try:
        flushing.result()
    except OSError as error:
        raise disk_error("The store's spool cannot be written", error) from error


def _problem(name: str) -> str:
    """Why an archive's file of this name is not taken. Names never become paths here; but one that would lead out of
    the folder it is unpacked into was made for no good."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or _DRIVE.match(plain) or ".." in plain.split("/") or "\0" in name:
        return "its name leads out of the archive"
    return ""


class _Again:
    """A source of which some bytes have been read already."""

    def __init__(self, first: bytes, rest: Source):
        self._first = first
        self._rest = rest

    def read(self, size: int) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._rest.read(size)


class _Checked:
    """A source that tells of what is read, before that is kept.

    :param spend: is told how many bytes; it may raise.
    """

    def __init__(self, source: Source, spend: Callable[[int], None]):
        self._source = source
        self._spend = spend

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._spend(len(data))
        return data
