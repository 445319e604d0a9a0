"""The moment at which a delivery ends, whatever the far side does."""

from __future__ import annotations

import math
import time

from airflow_monai.errors import DeadlinePassed

_NOTHING = 0.001  # seconds; a time-out that ended with the deadline may end a little before it


class Deadline:
    """A moment after which nothing more is sent.

    :param seconds: from now; infinite for no deadline at all.
    :param told: what the deadline is, for the error's text.
    """

    __slots__ = ("_at", "_told")

    def __init__(self, seconds: float = math.inf, told: str = "the deadline"):
        self._at = time.monotonic() + seconds
        self._told = told

    def left(self, most: float = math.inf) -> float:
        """Seconds until then, at most ``most``: a time-out for one request. Above 0.

        :raises DeadlinePassed: when there are none.
        """
        seconds = self._at - time.monotonic()
        if seconds <= _NOTHING:
            raise DeadlinePassed(f"{self._told} has passed")
        return min(seconds, most)

    def check(self) -> None:
        """:class:`DeadlinePassed` when it has passed."""
        self.left()

    def pause(self, seconds: float) -> None:
        """Sleep before another attempt, unless the deadline would pass meanwhile.

        :raises DeadlinePassed: at once, when it would.
        """
        if self.left(seconds) < seconds:
            raise DeadlinePassed(f"{self._told} would pass before another attempt")
        time.sleep(seconds)
