"""Keys that have to be worked on at some time, by a few threads; each key by one thread at a time."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

from airflow_monai.intake.events import log_internal

AFTER_AN_ERROR = 10.0
_RUNNING = float("nan")  # equal to no time

Step = Callable[[str], float | None]
"""Works on a key; returns after how many seconds to do so again, None when it is done with it."""


class Agenda:
    """Runs ``step`` for each key when its time has come.

    :param step: must say itself what goes wrong; an exception is logged and the step repeated.
    """

    def __init__(self, name: str, threads: int, step: Step):
        self._step = step
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}  # when each key's time is; _RUNNING while it is worked on
        self._hurried: set[str] = set()
        self._condition = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Begin no further step, and wait for those that run."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        end = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def add(self, key: str, delay: float = 0.0) -> bool:
        """Put the key on the agenda; False when it is there already."""
        with self._condition:
            if key in self._due:
                return False
            self._push(key, delay)
            return True

    def hurry(self, key: str) -> None:
        """Work on a key that is on the agenda now, or once more as soon as what is being done for it has ended."""
        with self._condition:
            if key not in self._due:
                return
            if self._due[key] is _RUNNING:
                self._hurried.add(key)
            else:
                self._push(key, 0.0)

    def __contains__(self, key: str) -> bool:
        with self._condition:
            return key in self._due

    def _push(self, key: str, delay: float) -> None:
        due = self._due[key] = time.monotonic() + delay
        heapq.heappush(self._heap, (due, key))
        self._condition.notify()

    def _work(self) -> None:
        while (key := self._next()) is not None:
            delay = self._run(key)
            with self._condition:
                hurried = key in self._hurried
                self._hurried.discard(key)
                if delay is None:
                    del self._due[key]
                else:
                    self._push(key, 0.0 if hurried else delay)

    def _run(self, key: str) -> float | None:
        try:
            return self._step(key)
        except Exception as error:  # noqa: BLE001 - the edge of this thread; whatever it was, the key stays on the agenda
            log_internal(f"{key}, which is tried again", error)
            return AFTER_AN_ERROR

    def _next(self) -> str | None:
        """The next key that is due, None when the agenda stops."""
        with self._condition:
            while not self._stopping:
                if not self._heap:
                    self._condition.wait()
                    continue
                due, key = self._heap[0]
                if self._due.get(key) != due:
                    heapq.heappop(self._heap)  # it was hurried since, or is done with
                    continue
                wait = due - time.monotonic()
                if wait <= 0:
                    heapq.heappop(self._heap)
                    self._due[key] = _RUNNING
                    return key
                self._condition.wait(wait)
            return None
