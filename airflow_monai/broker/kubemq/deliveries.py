"""How often a message was handed out to a gateway that died with it, which KubeMQ does not count.

A gateway notes each message that was there before it started, before it hands it out: as a message in a queue beside,
by the sequence number, which a message keeps as long as nobody has answered it. The next one that starts reads all
notes, and leaves one with what stands in them. A message that comes later is new, and only noted by the gateway after
one that died.

Each time that a message is handed out has an id of its own. So a note counts once, however often it is written and
read: when KubeMQ's confirmation of it is lost, or when notes come again beside the one with what stands in them.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from airflow_monai.broker.base import Message
from airflow_monai.broker.kubemq import wire
from airflow_monai.broker.kubemq.access import Access
from airflow_monai.broker.kubemq.line import Line

BEHIND = "-deliveries"
"""Behind the name of a queue: where notes of its messages lie."""
READ_SECONDS = 1.0
KEPT_SECONDS = 24 * 3600
_MOST = 1000
_Counts = dict[int, dict[str, float]]
"""Sequence number -> the times that it was handed out: id -> when."""


class Deliveries:
    """Of one queue, by one thread."""

    def __init__(self, access: Access, calls: wire.Calls, topic: str):
        self._access, self._calls = access, calls
        self._channel = f"{topic}{BEHIND}"
        self._counts: _Counts = {}
        self._unconfirmed: dict[int, str] = {}
        self._started: int | None = None

    def read(self, line: Line) -> None:
        """Read the notes of gateways that were here before; only the first time.

        :raises BrokerError: when that cannot be done.
        """
        if self._started is not None:
            return
        taken, counts = [], _Counts()
        while (found := line.poll(self._channel, READ_SECONDS, _MOST)) is not None:
            taken.append((found.TransactionId, [note.Attributes.Sequence for note in found.Messages]))
            for note in found.Messages:
                _add(counts, note.Body)
            if len(found.Messages) < _MOST:
                break
        counts = {number: times for number, times in counts.items() if time.time() - max(times.values()) < KEPT_SECONDS}
        self._started = self._write(counts)
        self._counts = counts
        for transaction, sequences in taken:
            line.acknowledge(transaction, sequences)

    def note(self, message: Any) -> str:
        """Note that a message is handed out; why it must not be, because that was too often.

        :raises BrokerError: when it cannot be noted.
        """
        if self._started is None or message.Attributes.Timestamp >= self._started:
            return ""
        number, limit = int(message.Attributes.Sequence), self._access.options.delivery_limit
        if len(self._counts.get(number, ())) >= limit:
            return f"it was handed out {limit} times, each to a gateway that died with it"
        this_time = {self._unconfirmed.setdefault(number, uuid.uuid4().hex[:12]): time.time()}
        self._write({number: this_time})
        del self._unconfirmed[number]
        self._counts.setdefault(number, {}).update(this_time)
        return ""

    def _write(self, counts: _Counts) -> int:
        """Leave a note; when that was, on the server's clock, in nanoseconds."""
        note = Message(self._channel, json.dumps(counts).encode(), type="deliveries")
        return int(self._access.send(self._calls, self._channel, note, {}).SentAt)


def _add(counts: _Counts, body: bytes) -> None:
    """Add what a note says; what is none says nothing."""
    try:
        found = {
            int(number): {name: float(when) for name, when in times.items()}
            for number, times in json.loads(body).items()
        }
    except (ValueError, TypeError, AttributeError):
        return
    for number, times in found.items():
        if times:
            counts.setdefault(number, {}).update(times)
