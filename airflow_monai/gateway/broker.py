"""The broker as a way in: requests for payloads, and answers that tasks wait for.

A message is acknowledged when what it asks for has its effect: the runs of the payload exist, the answer lies where
its task looks. Until then it is held; one that takes longer goes behind those that wait, so that it keeps none of them
from its turn. What is wrong for good goes to the dead letters, with the reason.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_monai.broker.base import Delivered, Message
from airflow_monai.broker.events import WorkflowRequestDraft, WorkflowRequestEvent, read_event
from airflow_monai.broker.events.topics import ANSWERS, EVENTS, REQUESTS
from airflow_monai.errors import InvalidEvent, MonaiError, StoreError
from airflow_monai.gateway.answers import AnswerTaker
from airflow_monai.gateway.held import Bench, Held
from airflow_monai.gateway.requests import Asked, FilesMissing, RequestTaker
from airflow_monai.intake.deposit import IntakeHeld
from airflow_monai.intake.events import EventKind, Reasons, log_internal

if TYPE_CHECKING:
    from airflow_monai.broker.base import Broker, Subscription
    from airflow_monai.broker.buckets import Buckets
    from airflow_monai.gateway.ways import GatewayParts, MakeWayIn, WayIn

HOLD_SECONDS = 60.0
"""How long a message may keep its place among those that are held. RabbitMQ itself takes one back after 30 minutes."""
FILES_SECONDS = 30.0
"""How long the files of a request may be missing from the bucket."""
RETRY_SECONDS = 2.0
FIRST_LOOK, LAST_LOOK = 0.1, 2.0
MOST_FAILURES = 5
"""Internal errors after which a message counts as one that nobody can handle."""
_THREADS = 4
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class BrokerWay:
    """Takes messages of a broker until it is stopped. Several gateways may share the queues.

    :param hold: see :data:`HOLD_SECONDS`.
    """

    name = "broker"

    def __init__(
        self,
        parts: GatewayParts,
        broker: Broker,
        buckets: Buckets,
        *,
        topics: Sequence[str] = (*REQUESTS, *ANSWERS),
        hold: float = HOLD_SECONDS,
        files_seconds: float = FILES_SECONDS,
    ):
        self._parts = parts
        self._broker = broker
        self._topics = tuple(topics)
        self._hold = hold
        self._files_seconds = files_seconds
        self._requests = RequestTaker(parts, buckets)
        self._answers = AnswerTaker(parts.store, buckets, parts.spool)
        self._reasons = Reasons(parts.events)
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._bench = Bench("broker", _THREADS, self._step)
        self._subscription: Subscription | None = None

    def start(self) -> None:
        self._bench.start()
        self._subscription = self._broker.subscribe(
            self._topics, lambda delivered: self._bench.add(Held(delivered)), self._told
        )

    def stop(self, grace: float) -> None:
        self._requests.stopping.set()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._bench.stop(grace)
            subscription.close(grace)

    def _told(self, reason: str | None) -> None:
        if reason is None:
            self._reasons.over(EventKind.BROKER_LOST, broker=self._broker.address.name)
            self._parts.events.emit(EventKind.BROKER_CONNECTED, broker=self._broker.address.name)
        else:
            self._reasons.tell(EventKind.BROKER_LOST, reason, broker=self._broker.address.name)

    def _step(self, held: Held) -> float | None:
        """Bring a message as far as it goes now."""
        delivered, message = held.delivered, held.delivered.message
        try:
            done = self._requests.is_done(held.taken) if held.taken else self._handled(held, message)
        except InvalidEvent as error:
            return self._refuse(delivered, str(error))
        except FilesMissing as error:
            if held.age > self._files_seconds:
                return self._refuse(delivered, f"{error}.")
            return self._wait(held, str(error), RETRY_SECONDS)
        except (IntakeHeld, StoreError) as error:
            return self._wait(held, str(error), RETRY_SECONDS)
        except Exception as error:  # noqa: BLE001 - the edge of a thread; the message must not be lost with it
            return self._failed(held, error)
        if done:
            self._over(held)
            delivered.ack()
            return None
        return self._wait(held, "", min(LAST_LOOK, FIRST_LOOK * 1.3 ** min(held.looks, 40)))

    def _handled(self, held: Held, message: Message) -> bool:
        """Take a message up for the first time; whether nothing is left to wait for."""
        message.check()
        event = read_event(EVENTS[message.topic], message.body)
        if not isinstance(event, (WorkflowRequestEvent, WorkflowRequestDraft)):
            self._answers.take(event)
            return True
        if isinstance(event, WorkflowRequestEvent) and event.is_of_a_task:
            return True  # as published receivers do: its artifacts come by a message of their own
        asked = Asked.by(event, self._requests.buckets)
        self._requests.take(asked)
        held.taken = asked.payload_id
        self._parts.events.emit(
            EventKind.REQUEST_TAKEN, payload_id=asked.payload_id, correlation_id=plain_id(asked.correlation_id)
        )
        return self._requests.is_done(asked.payload_id)

    def _wait(self, held: Held, reason: str, seconds: float) -> float | None:
        """Go on later: here, or when it has had its time, wherever it comes up again."""
        if reason:
            self._reasons.tell(EventKind.MESSAGE_WAITING, reason, topic=held.delivered.message.topic)
        if held.age < self._hold:
            return seconds
        held.delivered.requeue()
        return None

    def _refuse(self, delivered: Delivered, reason: str) -> float | None:
        """Put it among the dead letters; None, since nothing is left to do."""
        message = delivered.message
        if delivered.reject(reason):
            self._parts.events.emit(
                EventKind.MESSAGE_REFUSED, topic=message.topic, message_id=plain_id(message.message_id), reason=reason
            )
        return None

    def _failed(self, held: Held, error: Exception) -> float | None:
        reason = f"internal error: {type(error).__name__}"
        log_internal(f"a message of topic {held.delivered.message.topic}", error)
        if isinstance(error, MonaiError):
            reason = str(error)
        name = held.delivered.message.message_id
        with self._lock:
            count = self._failures[name] = self._failures.pop(name, 0) + 1
            while len(self._failures) > 1000:
                self._failures.popitem(last=False)
        if count >= MOST_FAILURES:
            return self._refuse(held.delivered, f"{reason}, {count} times.")
        return self._wait(held, reason, RETRY_SECONDS)

    def _over(self, held: Held) -> None:
        self._reasons.over(EventKind.MESSAGE_WAITING, topic=held.delivered.message.topic)


def plain_id(text: str) -> str:
    """An id as it may stand in events: of others than plain ones nothing is told."""
    return text if _PLAIN_ID.fullmatch(text) else ""


def broker_way(conn_id: str, buckets: Buckets) -> MakeWayIn:
    """Makes the way in of the broker whose Airflow connection that is."""

    def make(parts: GatewayParts) -> WayIn:
        from airflow_monai.broker.base import open_broker
        from airflow_monai.hooks.broker import broker_address

        # outside of tasks Airflow looks into its metadata database only for processes that say that they may
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        return BrokerWay(parts, open_broker(broker_address(conn_id)), buckets)

    return make
