"""What carries messages, as the rest of the package sees it. A broker is one file that implements :class:`Broker`.

Delivery is at least once, both ways: a publisher that was not told success publishes again, under the same message id,
and a message whose effect is not complete comes again. So whoever handles one must do no harm by handling it twice.
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from airflow_monai.broker.events.base import Event
from airflow_monai.errors import BrokerMisused, BrokerUnavailable, InvalidEvent

APPLICATION_ID = "16988a78-87b5-4168-a5c3-2cfc2bab8e54"
"""What published systems write as their application id; receivers want one."""
REASON_HEADER = "x-monai-reason"
"""Says in a dead-letter queue why a message lies there."""
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    :param topic: what it is about, which is also the name of its queue.
    :param type: class name of its event.
    :param timestamp: when it was made, seconds since the epoch.
    :param problem: why it cannot be taken whatever it says; empty for most.
    :param needs_queue: that nobody has a queue for it is an error of the publisher's; else it is then dropped.
    """

    topic: str
    body: bytes
    message_id: str = ""
    correlation_id: str = ""
    app_id: str = ""
    content_type: str = ""
    type: str = ""
    timestamp: int | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    needs_queue: bool = True

    def check(self) -> None:
        """Refuse a message that lacks what published receivers want, as they do.

        :raises InvalidEvent: naming what is missing.
        """
        if self.problem:
            raise InvalidEvent(self.problem)
        wanted = ("message_id", "correlation_id", "app_id", "content_type")
        missing = [name for name in wanted if not getattr(self, name)]
        if self.timestamp is None:
            missing.append("timestamp")
        if missing:
            raise InvalidEvent(f"The message has no {', no '.join(missing)} among its properties.")
        if "json" not in self.content_type.lower():
            raise InvalidEvent(f"The message's content_type is not {JSON}.")


def message_of(topic: str, event: Event, *, correlation_id: str, message_id: str = "") -> Message:
    """A message that publishes an event.

    :param message_id: the same for the same message published again; a new one by default.
    """
    return Message(
        topic=topic,
        body=event.body(),
        message_id=message_id or str(uuid.uuid4()),
        correlation_id=correlation_id,
        app_id=APPLICATION_ID,
        content_type=JSON,
        type=type(event).__name__,
        timestamp=int(time.time()),
    )


class Delivered(Protocol):
    """A message that was given to us. Exactly one of its methods is called, from any thread.

    Each returns whether it had its effect; False when the connection was lost meanwhile, and the message comes again.
    """

    @property
    def message(self) -> Message: ...

    def ack(self) -> bool:
        """What it asks for is done."""

    def reject(self, reason: str) -> bool:
        """It can never be done: put it among the dead letters, with the reason."""

    def requeue(self) -> bool:
        """It cannot be done yet: give it again later, after those that wait, however often that happens."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber wants; see :meth:`Broker.subscribe`."""

    topics: tuple[str, ...]
    handler: Callable[[Delivered], None]
    told: Callable[[str | None], None]


class Subscription(Protocol):
    """Messages of some topics, as long as it is open."""

    def close(self, grace: float = 10.0) -> None:
        """Take no more; messages that were not answered come again, to whoever subscribes next."""


class Publisher(Protocol):
    """Publishes; use it as a context, from one thread."""

    def __enter__(self) -> Publisher: ...

    def __exit__(self, *error: object) -> None: ...

    def publish(self, message: Message) -> None:
        """Return when the broker has confirmed that it holds the message, durable.

        :raises BrokerUnavailable: when that is not so; publishing it again does no harm.
        :raises BrokerMisused: when it never will be: no queue wants the topic and one must, or we may not publish.
        """


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is, and as whom to log in.

    :param name: of its Airflow connection, for messages.
    :param kind: connection type.
    :param extra: what else the kind of broker needs.
    """

    name: str
    kind: str
    host: str
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def text(self, key: str, default: str = "") -> str:
        value = self.extra.get(key)
        return default if value in (None, "") else str(value).strip()

    def flag(self, key: str, default: bool = False) -> bool:
        return self.text(key, str(default)).lower() in ("1", "true", "yes", "on")

    def number(self, key: str, default: int, least: int, most: int) -> int:
        """:raises BrokerMisused: when it is not a whole number within the limits."""
        text = self.text(key, str(default))
        try:
            value = int(float(text))
        except (ValueError, OverflowError):
            value = least - 1
        if not least <= value <= most:
            raise self.error(f"{key} = {text!r} is not a whole number from {least} to {most}")
        return value

    def client_certificate(self) -> tuple[str, ...]:
        """Files of the certificate that we show and of its key, or one that holds both; empty for none.

        :raises BrokerMisused: when there is a key without a certificate.
        """
        cert_file, key_file = self.text("cert_file"), self.text("key_file")
        if key_file and not cert_file:
            raise self.error("key_file is set without cert_file, the certificate that it belongs to")
        return tuple(name for name in (cert_file, key_file) if name)

    def error(self, problem: str) -> BrokerMisused:
        return BrokerMisused(f"Broker {self.name}: {problem}. Correct the Airflow connection {self.name!r}.")

    def away(self, problem: str) -> BrokerUnavailable:
        return BrokerUnavailable(f"Broker {self.name}: {problem}.")

    def unconfirmed(self, seconds: float) -> BrokerUnavailable:
        return self.away(f"it has not confirmed a message within {seconds:g} s")


class Broker(ABC):
    """A kind of message broker.

    :param address: :class:`BrokerMisused` when it cannot be used.
    """

    def __init__(self, address: BrokerAddress):
        self.address = address

    @abstractmethod
    def publisher(self) -> Publisher:
        """For messages to topics. Connects when it is entered."""

    def subscribe(
        self,
        topics: Sequence[str],
        handler: Callable[[Delivered], None],
        told: Callable[[str | None], None] = lambda reason: None,
    ) -> Subscription:
        """Have every message of the topics handled, for ever: a broker that is away is waited for.

        :param handler: called by one thread, and must return soon; the message may be answered later, by another.
        :param told: hears why no message can come now, and None when they can.
        """
        return self.subscribed(Wanted(tuple(topics), handler, told))

    @abstractmethod
    def subscribed(self, wanted: Wanted) -> Subscription:
        """What :meth:`subscribe` returns, of this kind of broker."""

    @abstractmethod
    def test(self) -> str:
        """Try to log in; what was found, in one line.

        :raises BrokerError: with the reason.
        """


BROKERS = {
    "monai_kafka": "airflow_monai.broker.kafka:Kafka",
    "monai_kubemq": "airflow_monai.broker.kubemq.broker:KubeMq",
    "monai_pubsub": "airflow_monai.broker.pubsub:PubSub",
    "monai_rabbitmq": "airflow_monai.broker.rabbitmq:RabbitMq",
    "amqp": "airflow_monai.broker.rabbitmq:RabbitMq",
    "amqps": "airflow_monai.broker.rabbitmq:RabbitMq",
}
"""Connection type -> the class, imported when it is first used. A new kind of broker is one file and one line here."""


class LibraryMissing(BrokerMisused):
    """What a kind of broker needs is not installed here."""


_EXTRAS = {"monai_kafka": "kafka", "monai_kubemq": "kubemq", "monai_pubsub": "pubsub"}
"""Which extra of ours brings what a connection type needs; ``rabbitmq`` for the others."""


def open_broker(address: BrokerAddress) -> Broker:
    """The broker at an address.

    :raises BrokerMisused: when its connection type is none of ours, or the address cannot be used.
    """
    place = BROKERS.get(address.kind)
    if place is None:
        raise BrokerMisused(
            f"Broker {address.name}: its Airflow connection has the type {address.kind!r}; brokers are of type "
            f"{', '.join(sorted(BROKERS))}. Change the connection's type."
        )
    module, _, name = place.partition(":")
    try:
        broker_class: type[Broker] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise LibraryMissing(
            f"Broker {address.name}: the library {error.name} is not installed here: pip install "
            f"'airflow-monai[{_EXTRAS.get(address.kind, 'rabbitmq')}]'."
        ) from None
    return broker_class(address)
