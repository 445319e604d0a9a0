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

T = TypeVar("T")
_MOMENT = 1.0
"""Seconds in which work that knows the deadline ends by itself, in good order."""

_NOTHING = 0.001  # seconds; a time-out that ended with the deadline may end a little before it


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

    def within(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, for libraries whose time-outs begin anew with every byte that comes.

        It has a thread of its own, and a moment more than the time, for what asks the deadline itself. What is not done
        by then goes on unheard, until its connection is closed.

        :raises StillAtIt: when it is not done by then, so that nobody knows what becomes of it.
        """
        if math.isinf(self._at):
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
        if not ended.wait(self.left() + _MOMENT):
            raise StillAtIt(f"{self._told} has passed")
        return done.result()

    def pause(self, seconds: float) -> None:
        """Sleep before another attempt, unless the deadline would pass meanwhile.

        :raises DeadlinePassed: at once, when it would.
        """
        if self.left(seconds) < seconds:
            raise DeadlinePassed(f"{self._told} would pass before another attempt")
        time.sleep(seconds)
