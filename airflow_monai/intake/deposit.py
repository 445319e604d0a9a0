"""Puts files that did not come by C-STORE into the intake: one by one, durable, and each with its verdict.

A file becomes what the gateway would have kept of it, had it come by C-STORE, so that an image is the same whichever
way it came. The files that are read belong to others, who may still change them: nothing is decided on them, only on
the copy in the spool.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai import settings
from airflow_monai.errors import InvalidArgument, MonaiError
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.archives import ArchiveLimits, ArchiveRefused, is_zip, members
from airflow_monai.store.foreign import Found
from airflow_monai.store.intake import Instance, Intake, Placed
from airflow_monai.store.spooling import FileSource, Refusal, Source, Spooled, Spooler, unreadable

if TYPE_CHECKING:
    from airflow_monai.store.space import DiskGuard

CALLING_AET = "INBOX"
_AT_A_TIME = 4
_NAMES_KEPT = 1000
_LIMITS = ArchiveLimits()
DIFFERS = "the store has another image of its SOP Instance UID, which came first; this one is not kept there"


class IntakeHeld(MonaiError):
    """Nothing may be taken in now; it goes on by itself when the reason is gone."""


class Outcome(str, Enum):
    """What became of a file."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"  # the store had it, and has noted that it came again
    PASSED_OVER = "passed-over"  # no image: the directory of a medium, a viewer, a text
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that is not in the store.

    :param name: where it lay in the deposit. It may name a patient, so it is for the depositor's eyes only.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class DepositReport:
    """What became of a deposit.

    :param passed_over: names of files that are no images, of the first thousand of them.
    """

    called_aet: str
    calling_aet: str
    images: int
    duplicates: int
    passed_over_count: int
    passed_over: tuple[str, ...]
    refused: tuple[RefusedFile, ...]
    payload_ids: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there was no image in it."""
        return not (self.images or self.duplicates)

    def __add__(self, later: DepositReport) -> DepositReport:
        """Of a deposit that was tried again: what was done before is done, what was not is said anew."""
        return replace(
            later,
            images=self.images + later.images,
            duplicates=self.duplicates + later.duplicates,
            payload_ids=tuple(dict.fromkeys((*self.payload_ids, *later.payload_ids))),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "called_aet": self.called_aet,
            "calling_aet": self.calling_aet,
            "images": self.images,
            "duplicates": self.duplicates,
            "passed_over_count": self.passed_over_count,
            "passed_over": list(self.passed_over),
            "refused": [{"name": item.name, "reason": item.reason} for item in self.refused],
            "payload_ids": list(self.payload_ids),
        }


def check_aet(text: str, what: str) -> str:
    """An AE title (PS3.5 section 6.2) without the spaces around it.

    :param what: whose it is, for the message.
    :raises InvalidArgument: when it is none.
    """
    title = text.strip(" ")
    if not title or len(title) > 16 or "\\" in title or not title.isascii() or not title.isprintable():
        raise InvalidArgument(f"{what} {text!r} is no AE title: 1 to 16 printable ASCII characters, no backslash.")
    return title


def default_calling_aet() -> str:
    """Who images are from that come without a calling AE title, as the settings say.

    :raises InvalidArgument: when that is none.
    """
    return check_aet(settings._text("inbox_calling_aet", CALLING_AET), "[monai] inbox_calling_aet")


class Depositor:
    """Takes deposits. Safe for threads.

    :param spool: folder for unfinished files on the store's file system; the caller removes it when it is done.
    :param received: called for each image with where it went and the called AE title.
    :param ended: called for each payload of a deposit that was all of it.
    :param guard: says when nothing may be taken in.
    :ivar stopping: when it is set, deposits end with :class:`IntakeHeld`.
    """

    def __init__(
        self,
        intake: Intake,
        spool: Path,
        *,
        grouping: Callable[[str], Grouping],
        received: Callable[[Placed, str], None] = lambda placed, called_aet: None,
        ended: Callable[[str], None] = lambda payload_id: None,
        guard: DiskGuard | None = None,
        limits: ArchiveLimits = _LIMITS,
    ):
        self.intake = intake
        self.spool = spool
        self.spooler = Spooler(spool, lambda _: self.check_open())  # also within a large file
        self.grouping = grouping
        self.received = received
        self.ended = ended
        self.guard = guard
        self.limits = limits
        self.stopping = threading.Event()

    def check_open(self) -> None:
        """:class:`IntakeHeld` when nothing may be taken in now."""
        if self.stopping.is_set():
            raise IntakeHeld("the gateway stops")
        if self.guard and (refusal := self.guard.refusal()):
            raise IntakeHeld(refusal)

    def begin(self, called_aet: str, calling_aet: str, grouping: Grouping | None = None) -> Deposit:
        """A deposit for an AE title.

        :param grouping: in place of the AE title's own.
        :raises InvalidArgument: when one is no AE title.
        """
        called = check_aet(called_aet, "The called AE title")
        return Deposit(self, called, check_aet(calling_aet, "The calling AE title"), grouping or self.grouping(called))


@dataclass
class _Count:
    images: int = 0
    duplicates: int = 0
    passed_over: int = 0
    names: list[str] = field(default_factory=list)
    refused: list[RefusedFile] = field(default_factory=list)
    payload_ids: dict[str, None] = field(default_factory=dict)


class Deposit:
    """Files that are put in together. :meth:`take` and what is built on it are safe for threads.

    Each method raises :class:`StoreError` when the store fails and :class:`IntakeHeld` when nothing may be taken in.
    What was taken before that stays; to do all again does no harm.
    """

    def __init__(self, depositor: Depositor, called_aet: str, calling_aet: str, grouping: Grouping):
        self.called_aet = called_aet
        self.calling_aet = calling_aet
        self._depositor = depositor
        self._grouping = grouping
        self._count = _Count()
        self._lock = threading.Lock()

    def take(self, source: Source, name: str) -> Outcome:
        """Take one file in. When this returns, an image is durable, and what is no image has been noted.

        :param name: for the report.
        """
        return self._read_in(source, name)()

    def file(self, path: Path, name: str) -> Outcome:
        """:meth:`take` a file of a folder; of a zip archive, all that is in it. Links are not followed."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return self.refuse(name, "it is a link" if path.is_symlink() else unreadable(error))
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return self.refuse(name, "it is no regular file")
        with open(fd, "rb") as file:
            try:
                head = file.read(4)
                file.seek(0)
            except OSError as error:
                return self.refuse(name, unreadable(error))
            if not is_zip(head):
                return self.take(FileSource(file), name)
        return self.archive(path, name)

    def archive(self, path: Path, name: str) -> Outcome:
        """:meth:`take` each file of a zip archive, or refuse it as a whole. Archives within it are refused.

        ``TAKEN`` when all of it that is no image could be passed over and there was an image in it.
        """
        try:
            outcomes = self._unpack(path, name)
        except ArchiveRefused as error:
            return self.refuse(name, str(error).rstrip("."))
        if outcomes[Outcome.REFUSED]:
            return Outcome.REFUSED
        if outcomes[Outcome.TAKEN] or outcomes[Outcome.DUPLICATE]:
            return Outcome.TAKEN
        return self.refuse(name, "there is no DICOM image in this archive")

    def _unpack(self, path: Path, name: str) -> Counter[Outcome]:
        """Members are read one after the other, and made durable several at a time."""
        outcomes: Counter[Outcome] = Counter()
        waiting: deque[Future[Outcome]] = deque()
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="unpack") as pool:
            for member in members(path, self._depositor.limits):
                if isinstance(member, tuple):
                    outcomes[self.refuse(f"{name}/{member[0]}", member[1])] += 1
                    continue
                waiting.append(pool.submit(self._read_in(member, f"{name}/{member.name}")))
                if len(waiting) > 2 * _AT_A_TIME:
                    outcomes[waiting.popleft().result()] += 1
            outcomes.update(future.result() for future in waiting)
        return outcomes

    def tree(self, folder: Path, each: Callable[[Path, Outcome], None] = lambda path, outcome: None) -> None:
        """:meth:`file` for all files below a folder, several at a time.

        :param each: is told of each file, from several threads, in no order.
        :raises OSError: as :func:`files_below`.
        """

        def one(path: Path) -> None:
            each(path, self.file(path, path.relative_to(folder).as_posix()))

        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="deposit") as pool:
            try:
                for _ in pool.map(one, list(files_below(folder))):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def finish(self, whole: bool) -> DepositReport:
        """What became of it.

        :param whole: nothing more of these studies is to come: they need not wait for it.
        """
        report = self.report()
        if whole:
            for payload_id in report.payload_ids:
                if self._depositor.intake.tell_whole(payload_id):
                    self._depositor.ended(payload_id)
        return report

    def report(self) -> DepositReport:
        """What became of it so far."""
        with self._lock:
            count = self._count
            return DepositReport(
                called_aet=self.called_aet,
                calling_aet=self.calling_aet,
                images=count.images,
                duplicates=count.duplicates,
                passed_over_count=count.passed_over,
                passed_over=tuple(count.names),
                refused=tuple(sorted(count.refused, key=lambda item: item.name)),
                payload_ids=tuple(count.payload_ids),
            )

    def refuse(self, name: str, reason: str) -> Outcome:
        """Note that a file is not taken."""
        with self._lock:
            self._count.refused.append(RefusedFile(name, reason))
        return Outcome.REFUSED

    def _read_in(self, source: Source, name: str) -> Callable[[], Outcome]:
        """Read a file to its end; what is returned must be called, and does the rest."""
        self._depositor.check_open()
        read = self._depositor.spooler.read(source, name)
        if isinstance(read, Spooled):
            return partial(self._put, read.found, read.path, name)
        outcome = self.refuse(name, read.reason) if isinstance(read, Refusal) else self._pass_over(name)
        return lambda: outcome

    def _put(self, found: Found, path: Path, name: str) -> Outcome:
        instance = Instance(found.identity, self.called_aet, self.calling_aet)
        try:
            placed = self._depositor.intake.add(instance, path, self._grouping)
        finally:
            path.unlink(missing_ok=True)
        with self._lock:
            self._count.payload_ids.setdefault(placed.payload_id)
            self._count.images += not placed.duplicate
            self._count.duplicates += placed.duplicate
        self._depositor.received(placed, self.called_aet)
        if placed.identical is False:
            return self.refuse(name, DIFFERS)
        return Outcome.DUPLICATE if placed.duplicate else Outcome.TAKEN

    def _pass_over(self, name: str) -> Outcome:
        with self._lock:
            self._count.passed_over += 1
            if len(self._count.names) < _NAMES_KEPT:
                self._count.names.append(name)
        return Outcome.PASSED_OVER


def files_below(folder: Path) -> Iterator[Path]:
    """All that is no folder below a folder, in order; links are not followed.

    A folder that we may not read is named itself: it must not look empty.

    :raises OSError: where one cannot be read for another reason, which may be over soon.
    """
    closed: list[Path] = []

    def failed(error: OSError) -> None:
        if not isinstance(error, PermissionError) or Path(error.filename) == folder:
            raise error
        closed.append(Path(error.filename))

    for top, folders, names in os.walk(folder, onerror=failed):
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        folders[:] = sorted(set(folders).difference(links))
        yield from (Path(top, name) for name in sorted([*names, *links]))
    yield from closed
