"""A pod's output from its first line, across streams that end, logs that rotate and API servers that restart.

Each line comes with the time at which it was written. After a break the log is asked for again from a little before the
last time that was seen, and lines that have been handed out are left out. Lines of two outputs may be written out of
order, which is why "a little before" and not "after" the last one.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

from airflow_monai.errors import MapError
from airflow_monai.maps.runners.lines import LineSplitter
from airflow_monai.maps.runners.log_thread import LOG_END, LogThread
from airflow_monai.maps.runners.times import time_of

OVERLAP_SECONDS = 3
PAUSE_SECONDS = 1.0
LAST_READS = 5
MAX_PIECE = 1 << 20
_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d) ")

Read = Callable[[str, bool], Iterator[bytes]]
"""Gives chunks of the log: since a time (empty: from the beginning), following it or not."""


class StampedLines:
    """Takes chunks of a log with timestamps, and hands each line out once.

    :param on_data: gets the lines without their timestamps, with their line ends.
    """

    def __init__(self, on_data: Callable[[bytes], None]):
        self.on_data = on_data
        self._rest = b""
        self._last: datetime | None = None
        self._recent: list[tuple[datetime, bytes]] = []
        self._known: Counter[tuple[datetime, bytes]] = Counter()

    @property
    def since(self) -> str:
        """From when on the log is asked for after a break; empty for its beginning."""
        if self._last is None:
            return ""
        return (self._last - timedelta(seconds=OVERLAP_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def begin(self) -> None:
        """A new stream begins, which may repeat what was seen."""
        self._rest = b""
        self._known = Counter(self._recent)

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > MAX_PIECE:
            self.end()

    def end(self) -> None:
        """The stream is whole: what has no line end is a line too."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""

    def _take(self, line: bytes) -> None:
        match = _TIMESTAMP.match(line)
        if not match:
            self.on_data(line + b"\n")  # a piece of a long line, or a word of the engine's own
            return
        stamp = _stamp(match)
        key = (stamp, line)
        if self._known[key]:
            self._known[key] -= 1
            return
        self._remember(key)
        self.on_data(line[match.end() :] + b"\n")

    def _remember(self, key: tuple[datetime, bytes]) -> None:
        if self._last is None or key[0] > self._last:
            self._last = key[0]
        self._recent.append(key)
        if len(self._recent) % 1000 == 0:
            horizon = self._last - timedelta(seconds=OVERLAP_SECONDS + 1)
            self._recent = [item for item in self._recent if item[0] >= horizon]


class PodLog(LogThread):
    """Reads a pod's log by a thread of its own, from when the container has begun until it has ended."""

    def __init__(self, read: Read, on_line: Callable[[bytes], None] | None = None):
        super().__init__()
        self._read_log = read
        self._splitter = LineSplitter(on_line or self._put)
        self._stamped = StampedLines(self._splitter.feed)
        self._ended = threading.Event()
        self.started = False
        self.idle = threading.Event()
        """The stream ended: a good moment to look whether the container did."""

    def start(self) -> None:
        self.started = True
        super().start()

    def container_ended(self) -> None:
        """Nothing is written any more: read what there is, then end."""
        self._ended.set()

    def give_up(self) -> None:
        super().give_up()
        self._ended.set()

    def _read(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(MapError, OSError, ValueError):
                self._copy(follow=True)
            self.idle.set()
            self._ended.wait(PAUSE_SECONDS)
        problem = self._read_rest()
        if problem:
            self._splitter.feed(f"\n[airflow-monai: the end of the log could not be read: {problem}]".encode())
        self._splitter.close()
        self._put(LOG_END)

    def _read_rest(self) -> str:
        """Read on to the end; what kept that from being possible."""
        problem = ""
        for _ in range(LAST_READS):
            if self._given_up.is_set():
                return ""
            try:
                self._copy(follow=False)
                return ""
            except (MapError, OSError, ValueError) as error:
                problem = type(error).__name__
            self._given_up.wait(PAUSE_SECONDS)
        return problem

    def _copy(self, *, follow: bool) -> None:
        self._stamped.begin()
        for chunk in self._read_log(self._stamped.since, follow):
            self._stamped.feed(chunk)
            if self._given_up.is_set():
                return
        if not follow:
            self._stamped.end()


def _stamp(match: re.Match[bytes]) -> datetime:
    text, zone = match[1].decode(), match[2].decode()
    if zone == "Z":
        return time_of(text + "Z") or datetime.fromtimestamp(0, timezone.utc)
    return datetime.fromisoformat(text[:26] + zone).astimezone(timezone.utc)
