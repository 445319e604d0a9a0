"""Reading an application's output in a thread of its own, so that whoever waits for lines can do other things too."""

from __future__ import annotations

import contextlib
import queue
import threading
from abc import ABC, abstractmethod

QUEUED_LINES = 1000
LOG_END = b"\n"
"""No line of a log is one that holds a line end."""


class LogThread(ABC):
    """Hands lines from a thread that reads to one that asks, of which a bounded number waits in between."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue(QUEUED_LINES)
        self._given_up = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._read, name="map-log", daemon=True).start()

    def next(self, seconds: float) -> bytes | None:
        """The next line, :data:`LOG_END` after the last one, None when none came in time."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def give_up(self) -> None:
        """Nobody asks for lines any more."""
        self._given_up.set()

    @abstractmethod
    def _read(self) -> None:
        """Put all lines and then :data:`LOG_END`; end early when it is given up."""

    def _put(self, line: bytes) -> None:
        while not self._given_up.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=1.0)
                return
