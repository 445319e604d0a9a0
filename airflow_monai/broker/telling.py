"""Tells a broker what happens to workflow instances (:class:`airflow_monai.lifecycle.outbox.Teller`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from airflow_monai.broker.base import Broker, Message, Publisher
from airflow_monai.broker.dialects import Dialect
from airflow_monai.errors import BrokerError, BrokerUnavailable
from airflow_monai.lifecycle.happening import Happening
from airflow_monai.lifecycle.outbox import Attempt, Verdict

CHANNEL = "broker"


class BrokerTeller:
    """
    :param opened: the broker; asked again after each failure, since its connection may have been corrected.
    """

    def __init__(self, opened: Callable[[], Broker], dialect: Dialect):
        self._opened = opened
        self._dialect = dialect
        self._stack = ExitStack()
        self._publisher: Publisher | None = None

    def wants(self, event: Happening) -> bool:
        return self._dialect.has_word_for(event.what)

    def tell(self, event: Happening) -> Attempt:
        message = self._dialect.message(event)
        if message is None:
            return Attempt(Verdict.TOLD)
        was_open = self._publisher is not None
        try:
            try:
                self._publish(message)
            except BrokerUnavailable:
                self.close()
                if not was_open:
                    raise
                self._publish(message)  # the connection may have been lost long ago
        except BrokerError as error:
            self.close()
            return Attempt(Verdict.AWAY, str(error))
        return Attempt(Verdict.TOLD)

    def close(self) -> None:
        self._publisher = None
        self._stack.close()

    def _publish(self, message: Message) -> None:
        if self._publisher is None:
            self._publisher = self._stack.enter_context(self._opened().publisher())
        self._publisher.publish(message)
