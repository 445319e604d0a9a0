"""What kinds of brokers do alike: a thread that consumes for ever, and answers that write a message again."""

from __future__ import annotations

import logging
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from airflow_monai.broker.base import REASON_HEADER, BrokerAddress, Message, Wanted
from airflow_monai.errors import BrokerError

DEAD_LETTER = "-dead-letter"
"""Behind a topic's name: where its dead letters lie."""
REASON_CHARACTERS = 2000
log = logging.getLogger(__name__)
_PAUSE_SECONDS = 1.0


class State:
    """Why no message can come now, None when they can; who listens hears each change once."""

    def __init__(self, told: Callable[[str | None], None]):
        self.reason: str | None = "not connected yet"
        self._told = told

    def tell(self, reason: str | None) -> None:
        if reason != self.reason:
            self.reason = reason
            self._told(reason)


class Consumer(ABC):
    """A subscription that a thread of its own looks after. What ends its work is told, and it begins anew.

    :cvar errors: what the client library raises, beside errors of ours.
    """

    errors: tuple[type[Exception], ...] = ()

    def __init__(self, address: BrokerAddress, wanted: Wanted):
        self.wanted = wanted
        self.closing = threading.Event()
        self.state = State(wanted.told)
        self.tell = self.state.tell
        self._thread = threading.Thread(target=self._run, name=f"{address.kind}-{address.name}", daemon=True)

    def start(self) -> None:
        """To be called when all is there that the thread needs."""
        self._thread.start()

    def close(self, grace: float = 10.0) -> None:
        self.closing.set()
        self._thread.join(grace)

    @abstractmethod
    def _consume(self) -> None:
        """Consume until ``closing`` is set, or something else ends it.

        :raises BrokerError: or one of ``errors``, to begin anew.
        """

    def _as_ours(self, error: Exception) -> BrokerError:
        """One of ``errors`` as one of ours; for those that have some."""
        raise error

    def _run(self) -> None:
        while not self.closing.is_set():
            try:
                self._consume()
            except BrokerError as error:
                self.tell(str(error))
            except self.errors as error:
                self.tell(str(self._as_ours(error)))
            except Exception as error:  # noqa: BLE001 - the thread's edge: it would end, and nobody would hear of it
                place = traceback.extract_tb(error.__traceback__)[-1]
                log.error("a consumer of %s failed: %s in %s", self.wanted.topics, type(error).__name__, place.name)
                self.tell(f"an error that nobody foresaw ({type(error).__name__}); it begins anew, see the log")
            self.closing.wait(_PAUSE_SECONDS)


class Rewritten(ABC):
    """A message whose broker cannot put it elsewhere by itself: it is written there, and then acknowledged here.

    So it is in one place at least, and in both where something ends in between.
    """

    message: Message

    @abstractmethod
    def ack(self) -> bool: ...

    @abstractmethod
    def _write(self, topic: str, headers: Mapping[str, str]) -> bool:
        """Write it to a topic; whether it lies there. Where it does not, see to it that the message comes again."""

    def reject(self, reason: str) -> bool:
        dead = {REASON_HEADER: reason[:REASON_CHARACTERS]}
        return self._write(f"{self.message.topic}{DEAD_LETTER}", dead) and self.ack()

    def requeue(self) -> bool:
        return self._write(self.message.topic, {}) and self.ack()
