"""The folder of leases: one file of state, changed under a lock, and a mark for each process that holds or waits.

    leases.json   the state; replaced whole, so that whoever looks sees one that was true
    leases.lock   locked while it is changed
    boot          which start of the host they are of
    owners/<mark> locked as long as the process lives that holds a lease or waits for one

Locks of the kernel tell who is alive: they end with the process, however it ends, and with the host. No clock and no
process id is asked, so neither a wrong clock, nor an id that is used again, nor workers in containers of their own
deceive. The folder must be on a disk of the host that has the cards, and the same for all workers there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from airflow_monai.errors import LeaseError
from airflow_monai.gpu.lease_place import unfit
from airflow_monai.gpu.lease_state import State
from airflow_monai.locks import is_locked

LOCK_SECONDS = 30.0
"""A change takes milliseconds; who cannot begin one for so long waits for a process that was stopped."""

STRAY_MARKS = 50


class LeaseFolder:
    """One folder; every error is a :class:`~airflow_monai.errors.LeaseError` that names it."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path / "leases.json"
        self._boot = path / "boot"
        self._owners = path / "owners"
        self._changing: int | None = None
        self._marks: dict[str, int] = {}

    @property
    def is_changing(self) -> bool:
        """This thread is in the middle of a change: a signal handler must not begin another."""
        return self._changing == threading.get_ident()

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Read the state, and write it when the block has put another one in its place."""
        self._prepare()
        with self._locked():
            change = Change(self, self.read())
            before = change.state
            try:
                yield change
                if change.state != before:
                    self._write(change.state)
            except BaseException:
                for mark in change.begun:
                    self.end(mark)
                raise
            used = change.state.owners()
            for mark in before.owners() - used:
                self._forget(mark)
            for mark in set(change.begun) - used:
                self.end(mark)
            self._sweep(used)

    def read(self) -> State:
        """The state as it is now, without a lock: the file is only ever replaced whole."""
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return State(boot=boot_id())
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        try:
            return State.from_json(text)
        except ValueError as error:
            if boot_id() and self._boot_of_state() not in ("", boot_id()):
                return State(boot=boot_id())
            raise LeaseError(
                f"{self._file}, which says who has which GPU, is damaged ({error}). Nothing is leased on this host "
                "until that is mended, since a card might be given twice: when no container of a GPU task is left "
                "here (`docker ps --filter label=monai.task`), remove the file."
            ) from None

    def begin(self) -> str:
        """A mark of this process, locked as long as it lives. Only within a change."""
        mark = f"{os.getpid()}-{os.urandom(8).hex()}"
        try:
            fd = os.open(self._owners / mark, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            raise self._unusable("cannot be written", error) from error
        self._marks[mark] = fd
        return mark

    def descriptor(self, mark: str) -> int | None:
        """What another process must keep open to count as the owner too."""
        return self._marks.get(mark)

    def end(self, mark: str) -> None:
        """Give up a mark of this process."""
        fd = self._marks.pop(mark, None)
        if fd is not None:
            os.close(fd)
        self._forget(mark)

    def lives(self, mark: str) -> bool:
        """Whether the process with this mark lives."""
        if not mark:
            return False
        return mark in self._marks or is_locked(self._owners / mark, unknown=True)

    def _prepare(self) -> None:
        if problem := unfit(self.path):
            raise LeaseError(f"The folder of GPU leases {self.path} is {problem}.")
        try:
            self._owners.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable("cannot be made", error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self.is_changing:
            raise RuntimeError("a change of leases within a change")
        deadline = time.monotonic() + LOCK_SECONDS
        try:
            fd = os.open(self.path / "leases.lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._unusable("cannot be written", error) from error
        try:
            pause = 0.001
            while not _flocked(fd):
                if time.monotonic() > deadline:
                    raise LeaseError(
                        f"{self.path}/leases.lock has been held by another process for {LOCK_SECONDS:.0f} s, which "
                        f"should take milliseconds: see `fuser {self.path}/leases.lock` for one that is stopped."
                    )
                time.sleep(pause)
                pause = min(0.02, pause * 1.5)
            self._changing = threading.get_ident()
            try:
                yield
            finally:
                self._changing = None
        finally:
            os.close(fd)

    def _write(self, state: State) -> None:
        """Replace the file. Only the first time after the host's start is it flushed to the disk, which costs more than
        all else here. A power cut may so leave half of a file, or an old one, of a start of the host that is over: no
        job outlives that, and the half of a file is known by it."""
        try:
            state.check()
        except ValueError as error:
            raise LeaseError(f"A change of {self._file} would be wrong and is not made: {error}.") from None
        flushed = not boot_id() or self._boot_of_state() != boot_id()
        self._replace(self._file, state.to_json(), flushed=flushed)
        if flushed and boot_id():
            self._replace(self._boot, boot_id().encode(), flushed=True)

    def _boot_of_state(self) -> str:
        """The start of the host in which the state was written last; empty where that is not known. It is noted, and
        flushed, after the first state of a start, and before any that is not flushed."""
        try:
            return self._boot.read_text()
        except (OSError, ValueError):
            return ""

    def _replace(self, file: Path, content: bytes, *, flushed: bool) -> None:
        temporary = self.path / f".leases-{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as written:
                written.write(content)
                written.flush()
                if flushed:
                    os.fsync(written.fileno())
            os.replace(temporary, file)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise self._unusable("cannot be written", error) from error

    def _forget(self, mark: str) -> None:
        with contextlib.suppress(OSError):
            (self._owners / mark).unlink()

    def _sweep(self, used: set[str]) -> None:
        """Remove marks of processes that died before they were noted, once there are many files."""
        with contextlib.suppress(OSError):
            marks = os.listdir(self._owners)
            if len(marks) > len(used) + STRAY_MARKS:
                for mark in set(marks) - used:
                    if not self.lives(mark):
                        self._forget(mark)
                for left in self.path.glob(".leases-*.tmp"):
                    left.unlink()

    def _unusable(self, what: str, error: OSError) -> LeaseError:
        hint = "free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "let the workers write there"
        return LeaseError(
            f"The folder of GPU leases {self.path} {what}: {error.strerror or error}. {hint[0].upper()}{hint[1:]}, or "
            "set [monai] gpu_lease_folder to another folder of this host, the same for all of its workers."
        )


class Change:
    """A change under way: put the new state into ``state``."""

    def __init__(self, folder: LeaseFolder, state: State):
        self.folder = folder
        self.state = state
        self.begun: list[str] = []

    def begin(self) -> str:
        """A mark for this process; given up again if nothing in the new state has it."""
        mark = self.folder.begin()
        self.begun.append(mark)
        return mark


@cache
def boot_id() -> str:
    """Which start of the host this is."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def since_boot() -> float:
    """Seconds since the host was started, asleep or not; nobody can set this clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _flocked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise LeaseError(f"The file system of the GPU leases has no locks ({error.strerror or error}).") from error
    return True
