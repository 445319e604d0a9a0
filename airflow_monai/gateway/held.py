"""Messages that are being worked on: each is taken up again until it is answered, by a few threads."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_monai.broker.base import Delivered
from airflow_monai.gateway.events import log

AFTER_AN_ERROR = 2.0


@dataclass(slots=True)
class Held:
    """A message that is not answered yet.

    :param since: when it came, on the monotonic clock.
    :param taken: what it asks for is stored; only its effect is waited for.
    :param looks: how often it was taken up.
    """

    delivered: Delivered
    since: float = field(default_factory=time.monotonic)
    taken: str = ""
    looks: int = 0

    @property
    def age(self) -> float:
        return time.monotonic() - self.since


Step = Callable[[Held], float | None]
"""Works on a message; returns after how many seconds to do so again, None when it is answered."""


class Bench:
    """Runs ``step`` for each message when its time has come."""

    def __init__(self, name: str, threads: int, step: Step):
        self._step = step
        self._heap: list[tuple[float, int, Held]] = []
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def add(self, held: Held, delay: float = 0.0) -> None:
        with self._condition:
            heapq.heappush(self._heap, (time.monotonic() + delay, next(self._order), held))
            self._condition.notify()

    def stop(self, grace: float) -> None:
        """Take nothing up any more, and wait for what is being worked on. What is not answered comes again."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        end = time.monotonic() + grace
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        while (held := self._next()) is not None:
            held.looks += 1
            try:
                delay = self._step(held)
            except Exception as error:  # noqa: BLE001 - the edge of a thread; the message must not be held for ever
                where = "".join(traceback.format_tb(error.__traceback__))  # without the message, which may quote data
                log.error("a message: internal error, %s, it is tried again\n%s", type(error).__name__, where)
                delay = AFTER_AN_ERROR
            if delay is not None:
                self.add(held, delay)

    def _next(self) -> Held | None:
        with self._condition:
            while not self._stopping:
                if not self._heap:
                    self._condition.wait()
                    continue
                wait = self._heap[0][0] - time.monotonic()
                if wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._condition.wait(wait)
            return None
