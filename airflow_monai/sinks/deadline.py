"""The moment at which a delivery ends, whatever the far side does."""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from airflow_monai.errors import DeadlinePassed
from airflow_monai.sinks.throttle import Throttle

T = TypeVar("T")
_MOMENT = 1.0
"""Seconds in which work that knows the deadline ends by itself, in good order."""

_NOTHING = 0.001  # seconds; a time-out that ended with the deadline may end a little before it


LONGEST = 3600.0
"""Seconds after which a request is given up that trickles on; more for what it carries, see :func:`longest`."""
_SLOWEST = 20_000.0  # bytes a second


def longest(size: int, throttle: Throttle | None, at_a_time: int = 1) -> float:
    """Seconds that a request may take in all, whatever still comes: without a deadline it would have no end.

    :param size: bytes that it carries.
    :param at_a_time: requests that share the bandwidth limit.
    """
    rate = min(_SLOWEST, throttle.bytes_per_second / at_a_time / 2) if throttle else _SLOWEST
    return LONGEST + size / rate


class StillAtIt(DeadlinePassed):
    """It has passed, and what was under way has not ended."""


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

    def within(self, work: Callable[[], T], most: float = math.inf) -> T:
        """What ``work`` gives, for libraries whose time-outs begin anew with every byte that comes.

        It has a thread of its own, and a moment more than the time, for what asks the deadline itself. What is not done
        by then goes on unheard, until its connection is closed.

        :param most: seconds that it may take although the deadline is later, or there is none.
        :raises StillAtIt: when it is not done at the deadline, so that nobody knows what becomes of it.
        :raises TimeoutError: likewise, when it has taken ``most``.
        """
        if math.isinf(self._at) and math.isinf(most):
            return work()
        done: Future[T] = Future()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                done.set_result(context.run(work))
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                done.set_exception(error)

        ended = threading.Event()
        done.add_done_callback(lambda _: ended.set())
        threading.Thread(target=run, name="within-deadline", daemon=True).start()
        left = self.left() + _MOMENT
        if not ended.wait(min(left, most)):
            if left > most:
                raise TimeoutError(f"it has taken {most:g} s")
            raise StillAtIt(f"{self._told} has passed")
        return done.result()

    def pause(self, seconds: float) -> None:
        """Sleep before another attempt, unless the deadline would pass meanwhile.

        :raises DeadlinePassed: at once, when it would.
        """
        if self.left(seconds) < seconds:
            raise DeadlinePassed(f"{self._told} would pass before another attempt")
        time.sleep(seconds)
