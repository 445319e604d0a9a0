"""A line that tells how far a long command is: rewritten on a terminal, now and then where there is none."""

from __future__ import annotations

import threading
import time
from typing import TextIO


class Progress:
    """Safe for threads.

    :param out: where to; usually standard error.
    """

    def __init__(self, out: TextIO, every: float = 0.2, every_without_terminal: float = 10.0):
        self._out = out
        self._terminal = out.isatty()
        self._every = every if self._terminal else every_without_terminal
        self._next = time.monotonic() + self._every
        self._width = 0
        self._lock = threading.Lock()

    def tell(self, text: str) -> None:
        """Show the text if the last one is old enough."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + self._every
                self._show(text)

    def clear(self) -> None:
        """Make room for what is printed next."""
        with self._lock:
            if self._terminal and self._width:
                self._out.write("\r" + " " * self._width + "\r")
                self._out.flush()
                self._width = 0

    def _show(self, text: str) -> None:
        if self._terminal:
            self._out.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._out.write(text + "\n")
        self._out.flush()
