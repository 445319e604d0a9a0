"""Takes messages of KubeMQ's queues, for ever."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from airflow_monai.broker.base import Message, Wanted
from airflow_monai.broker.consuming import Consumer, Rewritten, State
from airflow_monai.broker.kubemq import wire
from airflow_monai.broker.kubemq.access import Access
from airflow_monai.broker.kubemq.deliveries import Deliveries
from airflow_monai.broker.kubemq.line import Line
from airflow_monai.broker.texts import message_from
from airflow_monai.errors import BrokerError

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""So long the server waits for a message before it says that there is none. That it says so shows that it lives."""
_ROOM_SECONDS = 0.2


class KubeMqSubscription:
    """A queue's consumer for each topic, on one connection."""

    def __init__(self, access: Access, wanted: Wanted):
        self._wanted = wanted
        self._lock = threading.Lock()
        self._reasons: dict[str, str | None] = {}
        self._state = State(wanted.told)
        self._calls = access.calls()
        self._queues = [_Queue(access, self._calls, self._part(topic)) for topic in wanted.topics]
        for consumer in self._queues:
            consumer.start()

    def _part(self, topic: str) -> Wanted:
        return Wanted((topic,), self._handle, partial(self._heard, topic))

    def _handle(self, delivered: Any) -> None:
        with self._lock:  # one thread at a time
            self._wanted.handler(delivered)

    def _heard(self, topic: str, reason: str | None) -> None:
        with self._lock:
            self._reasons[topic] = reason
            worst = next((one for one in self._reasons.values() if one), None)
            if worst or len(self._reasons) == len(self._queues):
                self._state.tell(worst)

    def close(self, grace: float = 10.0) -> None:
        for consumer in self._queues:
            consumer.closing.set()
        self._calls.channel.close()  # ends all streams, so that nobody waits
        for consumer in self._queues:
            consumer.close(grace)


class _Queue(Consumer):
    """Takes one message of a queue after the other, as long as there is room for more."""

    def __init__(self, access: Access, calls: wire.Calls, wanted: Wanted):
        super().__init__(access.address, wanted)
        self.access, self.calls = access, calls
        (self._topic,) = wanted.topics
        self._deliveries = self._counted_anew()
        self._free: deque[Line] = deque()
        self._held: set[Line] = set()
        self._room = threading.Event()

    def _consume(self) -> None:
        line = self._line()
        try:
            line.check()
            self.tell(None)
            self._deliveries.read(line)
            while not self.closing.is_set():
                found = line.poll(self._topic, POLL_SECONDS)
                self.tell(None)
                if found is None:
                    continue
                self._hand_out(line, found)
                self._wait_for_room()
                line = self._line()
            line.close()
        except BrokerError:
            line.close()  # what it holds and nobody has comes again
            if not self.closing.is_set():
                raise
        except Exception:
            line.close()
            self._deliveries = self._counted_anew()  # else one that nobody can handle would come again for ever
            raise

    def _counted_anew(self) -> Deliveries:
        return Deliveries(self.access, self.calls, self._topic)

    def _hand_out(self, line: Line, found: Any) -> None:
        (given,) = found.Messages
        message = message_from(self._topic, given.Body, dict(given.Tags))
        delivery = _Delivery(self, line, found.TransactionId, given.Attributes.Sequence, message)
        too_often = self._deliveries.note(given)
        self._held.add(line)
        if too_often:
            delivery.reject(too_often)
        elif not self.closing.is_set():
            self.wanted.handler(delivery)

    def _wait_for_room(self) -> None:
        """A message whose line is lost is nobody's, and takes no room."""
        while not self.closing.is_set():
            self._room.clear()
            if sum(line.lost is None for line in list(self._held)) < self.access.options.prefetch:
                return
            self._room.wait(_ROOM_SECONDS)

    def _line(self) -> Line:
        while self._free:
            line = self._free.popleft()
            if line.lost is None:
                return line
        return Line(self.access, self.calls)

    def answered(self, line: Line, good: bool) -> bool:
        """A message is nobody's any more; where that is not known to the server, it comes again."""
        self._held.discard(line)
        if good:
            self._free.append(line)
        else:
            line.close()
        self._room.set()
        return good


class _Delivery(Rewritten):
    def __init__(self, of: _Queue, line: Line, transaction: str, sequence: int, message: Message):
        self.message = message
        self._of, self._line, self._transaction, self._sequence = of, line, transaction, sequence

    def ack(self) -> bool:
        try:
            self._line.acknowledge(self._transaction, [self._sequence])
        except BrokerError as error:
            log.warning("A message cannot be acknowledged: %s", error)
            return self._of.answered(self._line, False)
        return self._of.answered(self._line, True)

    def _write(self, topic: str, headers: Mapping[str, str]) -> bool:
        if self._line.lost is not None:  # it comes again; so it must not lie elsewhere too
            return self._of.answered(self._line, False)
        try:
            self._of.access.send(self._of.calls, topic, self.message, headers)
        except BrokerError as error:
            log.warning("%s", error)
            return self._of.answered(self._line, False)
        return True
