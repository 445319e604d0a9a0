"""A limit on the bandwidth that one delivery uses."""

from __future__ import annotations

import threading
import time

_BURST_SECONDS = 0.05
"""What an idle time may be made up for."""


class Throttle:
    """Spreads bytes over time; may be shared by the threads of one delivery.

    :param bytes_per_second: the limit, above 0.
    """

    def __init__(self, bytes_per_second: float):
        if not bytes_per_second > 0:
            raise ValueError("a bandwidth limit is above 0")
        self.bytes_per_second = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0  # when all that was taken so far has had its time

    def take(self, count: int) -> None:
        """Return when ``count`` more bytes may go; give it the pieces as they are sent, not a whole large file."""
        with self._lock:
            now = time.monotonic()
            starts = max(self._free_at, now - _BURST_SECONDS)
            self._free_at = starts + count / self.bytes_per_second
        if starts > now:
            time.sleep(starts - now)
