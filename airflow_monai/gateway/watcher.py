"""Looks again and again, in a thread of its own, whether something has come."""

from __future__ import annotations

import threading
from collections.abc import Callable

from airflow_monai.intake.events import log_internal


class Watcher:
    """
    :param name: of the thread.
    :param look: one round; what it raises is logged, and the next round goes on.
    :param seconds: between two rounds.
    :ivar stopped: set as soon as it is to end; what takes long asks it.
    """

    def __init__(self, name: str, look: Callable[[], None], seconds: float):
        self.stopped = threading.Event()
        self._name = name
        self._look = look
        self._seconds = seconds
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Begin no further round, and wait for one that is under way."""
        self.stopped.set()
        if self._thread.is_alive():
            self._thread.join(grace + 5)

    def _watch(self) -> None:
        while not self.stopped.is_set():
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - the edge of a thread; it must not end without anybody noticing
                log_internal(f"{self._name}, which goes on", error)
            self.stopped.wait(self._seconds)
