"""Keeps one application of the process runner: starts it, holds it to its limits, writes down how it ended.

Runs as a program of its own (``python -I -S keeper.py <state folder>``) in a session of its own, so that it and the
application live on when the worker that started it dies. It needs nothing but the standard library. Its folder:

    job.json      what to run: argv, environment, cwd, names of variables that it gets of the keeper's own environment
                  (secrets), and its limits: memory_bytes, processes, timeout_seconds, grace_seconds, log_bytes
    lock          locked as long as the keeper lives, which is how others know that it does
    pid.json      the keeper and the application: process id and start time of each
    output.log    what the application printed
    exit.json     code, oom, timed_out, seconds, peak_memory_bytes, cpu_seconds; written last
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from typing import Any

LOOK_SECONDS = 0.1
LOCK_SECONDS = 2.0
STOP_GRACE_SECONDS = 2.0
"""From the polite signal to the other one for an application that is stopped before its time is over."""
DRAIN_SECONDS = 1.0
NOT_STARTED = 127
TOO_MANY_CODE = 1
"""Of an application with too many processes: its own failure, which another try would only repeat."""
TAIL_BYTES = 128 * 1024
"""Of output that is too long the end is kept too: it says why an application failed."""
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def main(folder: str) -> int:
    """Run the job of the folder, unless another keeper has it or it has ended."""
    os.chdir(folder)
    lock = open("lock", "w")  # noqa: SIM115 - held until the process ends
    if not _locked(lock.fileno()) or os.path.exists("exit.json"):
        return 0
    with open("job.json") as file:
        job = json.load(file)
    log = os.open("output.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    verdict = _Keeper(job, log).run()
    os.close(log)
    write_json("exit.json", verdict)
    return 0


def write_json(path: str, value: Any) -> None:
    """Write a file whole and durably."""
    temporary = f"{path}.tmp"
    with open(temporary, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot, which tells a reused id from the old one; None without one."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _locked(fd: int) -> bool:
    """Get the lock. Others look at it for an instant, so one refusal says nothing."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


class _Keeper:
    def __init__(self, job: dict[str, Any], log: int):
        self.job = job
        self.log = log
        self.log_left = int(job["log_bytes"])
        self.begun = time.monotonic()
        self.asked_to_stop = False
        self.oom = self.timed_out = self.too_many = False
        self.tail = bytearray()
        self.left_out = 0
        self.peak_memory = 0
        self.cpu_seconds = 0.0

    def run(self) -> dict[str, Any]:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "asked_to_stop", True))
        write_json("pid.json", {"keeper": _identity(os.getpid())})
        try:
            child = self._start()
        except OSError as error:
            self._note(f"the application could not be started: {error.strerror}")
            return self._verdict(NOT_STARTED)
        write_json("pid.json", {"keeper": _identity(os.getpid()), "application": _identity(child.pid)})
        code = self._watch(child)
        return self._verdict(code if code >= 0 else 128 - code)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.job["argv"],
            env={**self.job["environment"], **self._secrets()},
            cwd=self.job["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _secrets(self) -> dict[str, str]:
        """What must not be in a file or a command line."""
        return {name: os.environ[name] for name in self.job["secrets"] if name in os.environ}

    def _watch(self, child: subprocess.Popen[bytes]) -> int:
        """Copy its output and hold it to its limits until it has ended; its exit code."""
        pipe = child.stdout.fileno()  # type: ignore[union-attr]
        os.set_blocking(pipe, False)
        ended = os.pidfd_open(child.pid)
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        poller.register(ended, select.POLLIN)
        next_look = 0.0
        while True:
            ready = dict(poller.poll(LOOK_SECONDS * 1000))
            if pipe in ready and not self._copy(pipe):
                poller.unregister(pipe)
            if ended in ready:
                break
            if time.monotonic() >= next_look:  # not for each piece of a flood of output
                if self._over(child.pid):
                    self._end(child)
                    break
                next_look = time.monotonic() + LOOK_SECONDS
        code = child.wait()
        _signal_group(child.pid, signal.SIGKILL)  # what it left running in the background
        self._drain(pipe)
        self._write_tail()
        if self.too_many:
            self._note(f"the application had more than the {self.job['processes']} processes that it may have; ended")
            code = TOO_MANY_CODE
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.peak_memory = max(self.peak_memory, used.ru_maxrss * 1024)
        self.cpu_seconds = max(self.cpu_seconds, used.ru_utime + used.ru_stime)
        return code

    def _over(self, pid: int) -> bool:
        """Whether it must be ended now, and why."""
        limit, memory = self.job["timeout_seconds"], self.job["memory_bytes"]
        family = descendants(pid)
        used = memory_of(family)
        # what somebody else's wait has not counted yet, and what one process had between two looks
        self.peak_memory = max(self.peak_memory, used, *map(most_memory_of, family))
        self.cpu_seconds = max(self.cpu_seconds, sum(map(cpu_seconds_of, family)))
        self.timed_out = limit is not None and time.monotonic() - self.begun >= limit
        self.oom = not self.timed_out and 0 < memory < used
        self.too_many = len(family) > self.job.get("processes", len(family))
        return self.asked_to_stop or self.timed_out or self.oom or self.too_many

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        family = descendants(child.pid)
        if not (self.oom or self.too_many):
            _signal_group(child.pid, signal.SIGTERM)
            grace = self.job.get("grace_seconds", STOP_GRACE_SECONDS) if self.timed_out else STOP_GRACE_SECONDS
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace)
        _signal_group(child.pid, signal.SIGKILL)
        for pid in family:  # those that left the group
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _copy(self, pipe: int) -> bool:
        """Copy what is there to the log; False at the end of the output."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(pipe, 65536)
            if not data:
                return False
            if self.log_left > 0:
                self.log_left -= len(data)
                os.write(self.log, data)
            else:
                self.tail += data
                surplus = len(self.tail) - TAIL_BYTES
                if surplus > TAIL_BYTES:
                    del self.tail[:surplus]
                    self.left_out += surplus
        return True

    def _write_tail(self) -> None:
        """The end of output that was too long, from a line's beginning on."""
        surplus = max(0, len(self.tail) - TAIL_BYTES)
        if self.left_out or surplus:
            surplus = self.tail.find(b"\n", surplus) + 1 or surplus
            self._note(f"the log is too long; {self.left_out + surplus} bytes are left out here")
        os.write(self.log, self.tail[surplus:])

    def _drain(self, pipe: int) -> None:
        """The last of the output; a process that survived all signals may hold the pipe open, so not for ever."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline and select.select([pipe], [], [], DRAIN_SECONDS)[0] and self._copy(pipe):
            pass

    def _note(self, text: str) -> None:
        os.write(self.log, f"\n[airflow-monai: {text}]\n".encode())

    def _verdict(self, code: int) -> dict[str, Any]:
        seconds = round(time.monotonic() - self.begun, 3)
        return {
            "code": code,
            "oom": self.oom,
            "timed_out": self.timed_out,
            "seconds": seconds,
            "peak_memory_bytes": self.peak_memory,
            "cpu_seconds": round(self.cpu_seconds, 3),
        }


def _identity(pid: int) -> dict[str, int | None]:
    return {"pid": pid, "start": start_time(pid)}


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def descendants(pid: int) -> list[int]:
    """A process and all that come from it."""
    family, waiting = [], [pid]
    while waiting:
        pid = waiting.pop()
        family.append(pid)
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    waiting.extend(int(child) for child in file.read().split())
    return family


def memory_of(family: list[int]) -> int:
    """Memory of processes, in bytes: pages that they share count once."""
    resident = sum(_resident(member) for member in family)
    # the cheap sum counts shared pages for each; only a large one is worth the exact look
    return resident if resident < 64 * 1024**2 else min(resident, sum(_proportional(member) for member in family))


def most_memory_of(pid: int) -> int:
    """The most memory that one process has had, in bytes, by the kernel's own record."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)
    except (OSError, IndexError, ValueError):
        return 0


def cpu_seconds_of(pid: int) -> float:
    """CPU time of a process and of those from it that have ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:15])) / TICK
    except (OSError, IndexError, ValueError):
        return 0.0


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except OSError:
        return _resident(pid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
