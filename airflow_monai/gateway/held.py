"""Messages that are being worked on: each is taken up again until it is answered, by a few threads."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_monai.broker.base import Delivered
from airflow_monai.gateway.agenda import Agenda
from airflow_monai.intake.events import log_internal

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
        self._held: dict[str, Held] = {}
        self._numbers = itertools.count()
        self._agenda = Agenda(name, threads, self._work)

    def start(self) -> None:
        self._agenda.start()

    def add(self, held: Held, delay: float = 0.0) -> None:
        key = f"message {next(self._numbers)}"
        self._held[key] = held
        self._agenda.add(key, delay)

    def stop(self, grace: float) -> None:
        """Take nothing up any more, and wait for what is being worked on. What is not answered comes again."""
        self._agenda.stop(grace)

    def _work(self, key: str) -> float | None:
        held = self._held[key]
        held.looks += 1
        try:
            delay = self._step(held)
        except Exception as error:  # noqa: BLE001 - the edge of a thread; a message is tried sooner than a payload
            log_internal("a message, which is tried again", error)
            return AFTER_AN_ERROR
        if delay is None:
            del self._held[key]
        return delay
