"""Lines of an application's output, out of a stream of bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_LINE_BYTES = 16 * 1024
_RETURNS = re.compile(rb"\r+")
_LINE_ENDS = re.compile(rb"\r?\n|(?<=\r)")
OnLine = Callable[[bytes], None]
"""Takes a line of an application's output. One that ends with a carriage return is overwritten by the next, as the bars
of progress are."""


@dataclass(slots=True)
class LineSplitter:
    """Cuts a stream of bytes into lines; a line longer than :data:`MAX_LINE_BYTES` is cut into several.

    What a carriage return alone ends is a line too, and keeps that mark: a bar would else come only when it is full.
    """

    on_line: OnLine
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        whole = self._rest + data
        # what follows the carriage returns at the end will tell what they mean
        body = whole.rstrip(b"\r")
        *lines, rest = _LINE_ENDS.split(_RETURNS.sub(b"\r", body)) if b"\r" in body else body.split(b"\n")
        for line in lines:
            self._emit(line)
        while len(rest) > MAX_LINE_BYTES:
            self.on_line(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = rest + b"\r" if len(body) < len(whole) else rest

    def close(self) -> None:
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        if rest:
            self._emit(rest)

    def _emit(self, line: bytes) -> None:
        if line == b"\r":
            return  # before the first bar: it overwrites nothing
        for start in range(0, max(len(line), 1), MAX_LINE_BYTES):
            self.on_line(line[start : start + MAX_LINE_BYTES])
