"""Processes of the local stack: started in a session of their own, found again by pid and start time, ended for sure.

Everything that a stack starts inherits ``MONAI_LOCAL_STACK=<token>``, so that what its processes leave behind (an
orphaned task, a worker that outlived its scheduler) is found too, and nothing else is ever signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

TOKEN_VARIABLE = "MONAI_LOCAL_STACK"


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessRef | None:
        """The running process with this pid, None when there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1.5 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def signal(self, number: int, *, group: bool = False) -> None:
        """Signal the process, or its whole group; nothing happens when it has ended."""
        if not self.alive():
            return
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


class Process:
    """One component of the stack, its output in a log file.

    :param argv: command line; its first word is looked up in PATH.
    :param stop_signal: what ends it in good order. ``starts`` counts how often it was started.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stop_signal: int = signal.SIGTERM,
    ):
        self.name = name
        self.argv = tuple(str(word) for word in argv)
        self.log = log
        self.env = dict(env)
        self.cwd = cwd
        self.stop_signal = stop_signal
        self.ref: ProcessRef | None = None
        self.starts = 0
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,  # Ctrl-C of the terminal is for the stack's owner only
            )
        self.ref = ProcessRef.of(self._popen.pid)

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, None while it runs."""
        return self._popen.poll() if self._popen else None

    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def signal(self, number: int, *, group: bool = False) -> None:
        if self.alive() and self.ref:
            self.ref.signal(number, group=group)

    def wait(self, seconds: float) -> bool:
        """True when the process has ended within so many seconds."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self, lines: int = 15) -> str:
        return tail(self.log, lines)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file, empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64 * 1024))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def marked(token: str) -> list[ProcessRef]:
    """Every process that carries the stack's token in its environment, and all below it that do not any more.

    Never this process and its parents.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, ProcessRef] = {}
    for process in psutil.process_iter():
        try:
            if process.pid in own or process.environ().get(TOKEN_VARIABLE) != token:
                continue
            for member in (process, *process.children(recursive=True)):
                found[member.pid] = ProcessRef(member.pid, member.create_time())
        except (psutil.Error, OSError):
            continue
    return [ref for pid, ref in found.items() if pid not in own]


def family(ref: ProcessRef | None) -> set[int]:
    """Pids of a process and of all below it; empty when it has ended."""
    if ref is None or not ref.alive():
        return set()
    try:
        return {ref.pid, *(child.pid for child in psutil.Process(ref.pid).children(recursive=True))}
    except psutil.Error:
        return {ref.pid}


def end(refs: Iterable[ProcessRef], *, grace: float, group: bool = False) -> None:
    """TERM, then after ``grace`` seconds KILL; returns when all have ended (or cannot be ended)."""
    refs = list(refs)
    for ref in refs:
        ref.signal(signal.SIGTERM, group=group)
    if not wait_until(lambda: not any(ref.alive() for ref in refs), grace):
        for ref in refs:
            ref.signal(signal.SIGKILL, group=group)
        wait_until(lambda: not any(ref.alive() for ref in refs), 5)


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    """True as soon as the condition holds, False when it did not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
