"""How often a message was handed out to a gateway that died with it, which KubeMQ does not count.

A gateway notes each message that was there before it started, before it hands it out: as a message in a queue beside,
by the sequence number, which a message keeps as long as nobody has answered it. The next one that starts reads all
notes, and leaves their sum. A message that comes later is new, and only noted by the gateway after one that died.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
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
_Counts = dict[int, tuple[int, float]]
"""Sequence number -> (how often it was handed out, when last)."""


class Deliveries:
    """Of one queue, by one thread."""

    def __init__(self, access: Access, calls: wire.Calls, topic: str):
        self._access, self._calls = access, calls
        self._channel = f"{topic}{BEHIND}"
        self._counts: _Counts = {}
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
        counts = {number: kept for number, kept in counts.items() if time.time() - kept[1] < KEPT_SECONDS}
        self._started = self._write(counts)
        self._counts = counts
        for transaction, sequences in taken:  # where we die before, they count twice
            line.acknowledge(transaction, sequences)

    def note(self, message: Any) -> str:
        """Note that a message is handed out; why it must not be, because that was too often.

        :raises BrokerError: when it cannot be noted.
        """
        if self._started is None or message.Attributes.Timestamp >= self._started:
            return ""
        number, limit = int(message.Attributes.Sequence), self._access.options.delivery_limit
        times = self._counts.get(number, (0, 0.0))[0]
        if times >= limit:
            return f"it was handed out {limit} times, each to a gateway that died with it"
        self._write({number: (1, time.time())})
        self._counts[number] = (times + 1, time.time())
        return ""

    def _write(self, counts: Mapping[int, tuple[int, float]]) -> int:
        """Leave a note; when that was, on the server's clock, in nanoseconds."""
        note = Message(self._channel, json.dumps(counts).encode(), type="deliveries")
        return int(self._access.send(self._calls, self._channel, note, {}).SentAt)


def _add(counts: _Counts, body: bytes) -> None:
    """Add up what a note says; what is none says nothing."""
    try:
        found = [(int(number), int(times), float(when)) for number, (times, when) in json.loads(body).items()]
    except (ValueError, TypeError, AttributeError):
        return
    for number, times, when in found:
        before = counts.get(number, (0, 0.0))
        counts[number] = (before[0] + times, max(before[1], when))
