"""Threads that share one delivery: what is still to be sent, how it goes, and the end of it."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from airflow_monai.errors import SinkUnavailable
from airflow_monai.sinks import tries
from airflow_monai.sinks.base import Delivery, Instance, OnResult, Sink

log = logging.getLogger(__name__)
_TAKEN = 65_536  # bytes at a time of the bandwidth limit


class Stopped(Exception):
    """Another thread of the crew has failed; it says why."""


class Crew(ABC):
    """One call of :meth:`airflow_monai.sinks.base.Sink.send` by several threads; a single one works in the caller's.

    :param name: of the far side, for messages.
    """

    def __init__(self, sink: Sink, name: str, instances: Sequence[Instance], on_result: OnResult, threads: int):
        self.deadline, self.throttle = sink.deadline, sink.throttle
        self.left = deque(instances)
        self.lock = threading.Lock()
        self._name = name
        self._threads = min(threads, max(1, len(instances)))
        self._on_result = on_result
        self._telling = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._setbacks = 0

    @abstractmethod
    def next_batch(self) -> list[Instance]:
        """Take what goes together from ``left``; empty at the end. Called with ``lock`` held."""

    @abstractmethod
    def deliver(self, batch: Sequence[Instance]) -> None:
        """Send until there is a verdict on each instance, or its tries are used up."""

    def run(self) -> None:
        """Send everything. What a thread raises ends all of them, once the answers under way are there."""
        if self._threads == 1:
            self._work()
        else:
            with ThreadPoolExecutor(self._threads, thread_name_prefix="delivery") as pool:
                try:
                    wait([pool.submit(self._work) for _ in range(self._threads)])
                finally:
                    self._stop.set()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while batch := self._next():
                self.deliver(batch)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that called us
            with self.lock:
                self._error = self._error or error
            self._stop.set()

    def _next(self) -> list[Instance]:
        with self.lock:
            return [] if self._stop.is_set() else self.next_batch()

    def check(self) -> None:
        """Before anything is sent: raises when the time is over or another thread has failed."""
        if self._stop.is_set():
            raise Stopped
        self.deadline.check()

    def piece(self, count: int) -> None:
        """Before so many bytes are sent: as :meth:`check`, and waits for the bandwidth limit."""
        self.check()
        while self.throttle is not None and count > 0:
            self.throttle.take(min(count, _TAKEN))
            count -= _TAKEN
            self.check()

    def tell(self, news: Delivery) -> Delivery:
        """Report it; the ledger takes one at a time."""
        with self._telling:
            self._on_result(news)
        return news

    def count(self, verdicts: Iterable[Delivery]) -> None:
        """Count requests that brought nothing.

        :raises SinkUnavailable: there were too many in a row.
        """
        news = list(verdicts)
        if not news:
            return
        with self.lock:
            self._setbacks = self._setbacks + 1 if all(one.retry for one in news) else 0
            if self._setbacks < tries.SETBACKS:
                return
        raise SinkUnavailable(
            f"{self._name} accepted nothing in {self._setbacks} requests in a row; the last: {news[0].message}."
        )

    def repeat(self, attempt: Callable[[], Delivery]) -> None:
        """Make an attempt on one instance as often as it may be made, until its verdict is final."""
        for number in range(tries.TRIES):
            news = attempt()
            self.count([news])
            if not news.retry:
                return
            if number + 1 < tries.TRIES:
                pause = tries.pause_after(number)
                log.warning("%s; trying again in %g s", news.message, pause)
                self.pause(pause)

    def pause(self, seconds: float) -> None:
        """Wait before another attempt, unless the deadline would pass meanwhile or another thread fails."""
        if self.deadline.left(seconds) < seconds:
            self.deadline.pause(seconds)  # says so
        if self._stop.wait(seconds):
            raise Stopped
