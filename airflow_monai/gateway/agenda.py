"""Keys that have to be worked on at some time, by a few threads; each key by one thread at a time."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

from airflow_monai.gateway.events import log

AFTER_AN_ERROR = 10.0

Step = Callable[[str], float | None]
"""Works on a key; returns after how many seconds to do so again, None when it is done with it."""


class Agenda:
    """Runs ``step`` for each key when its time has come.

    :param step: must say itself what goes wrong; an exception is logged and the step repeated.
    """

    def __init__(self, name: str, threads: int, step: Step):
        self._step = step
        self._heap: list[tuple[float, str]] = []
        self._keys: set[str] = set()
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
            if key in self._keys:
                return False
            self._keys.add(key)
            self._push(key, delay)
            return True

    def __contains__(self, key: str) -> bool:
        with self._condition:
            return key in self._keys

    def _push(self, key: str, delay: float) -> None:
        heapq.heappush(self._heap, (time.monotonic() + delay, key))
        self._condition.notify()

    def _work(self) -> None:
        while (key := self._next()) is not None:
            delay = self._run(key)
            with self._condition:
                if delay is None:
                    self._keys.discard(key)
                else:
                    self._push(key, delay)

    def _run(self, key: str) -> float | None:
        try:
            return self._step(key)
        except Exception:  # noqa: BLE001 - the edge of this thread; whatever it was, the key stays on the agenda
            log.exception("payload %s: internal error, it is tried again", key)
            return AFTER_AN_ERROR

    def _next(self) -> str | None:
        """The next key that is due, None when the agenda stops."""
        with self._condition:
            while not self._stopping:
                if not self._heap:
                    self._condition.wait()
                    continue
                wait = self._heap[0][0] - time.monotonic()
                if wait <= 0:
                    return heapq.heappop(self._heap)[1]
                self._condition.wait(wait)
            return None
