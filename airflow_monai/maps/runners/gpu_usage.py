"""How much card memory an application uses, as the driver tells it of each process; nothing without a driver."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 3.0
"""The driver's program takes a tenth of a second or more, and the memory of a model is held for long."""
PATIENCE_SECONDS = 10.0
MIB = 1 << 20
_QUERY = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")


class GpuMemory:
    """The most card memory that the processes of one application were seen with.

    :param pids: gives their ids on this host.
    """

    def __init__(self, pids: Callable[[], Collection[int]]):
        self._pids = pids
        self._program = shutil.which("nvidia-smi")
        self._next = 0.0
        self.peak: int | None = None

    def look(self) -> None:
        """Take a sample if it is time for one."""
        if self._program is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_SECONDS
        own = set(self._pids())
        used = [size for pid, size in memory_by_process(self._program) if pid in own]
        if used:
            self.peak = max(sum(used), self.peak or 0)


@contextmanager
def sampled(gpu: GpuMemory) -> Iterator[GpuMemory]:
    """Take samples while the block runs, in a thread of its own."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(1.0):
            gpu.look()

    threading.Thread(target=work, name="gpu-usage", daemon=True).start()
    try:
        yield gpu
    finally:
        ended.set()


def memory_by_process(program: str) -> list[tuple[int, int]]:
    """Process id and bytes, once for each card that a process uses; empty when the driver does not say."""
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = (line.split(",") for line in done.stdout.splitlines()) if done.returncode == 0 else ()
    # of MIG slices the driver says [N/A]
    return [
        (int(pid), int(size) * MIB)
        for pid, size in (map(str.strip, line) for line in lines if len(line) == 2)
        if pid.isdecimal() and size.isdecimal()
    ]
