"""RabbitMQ: a durable topic exchange, quorum queues, dead letters, publisher confirms.

    <exchange>               topic -> queue of the same name, of type quorum, with a delivery limit
    <dead_letter_exchange>   topic -> <queue>-dead-letter

A message that is put back is published again behind the others and then acknowledged, so that RabbitMQ's delivery
limit counts only consumers that died with it, and a valid message is never a dead letter for having waited. A rejected
one is published to the dead letters with the reason, and then acknowledged. Both wait for the broker's confirmation in
between, so that a message is in one place at least.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import Any

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker

from airflow_monai.broker.base import REASON_HEADER, Broker, BrokerAddress, Message, Publisher, Subscription, Wanted
from airflow_monai.broker.consuming import DEAD_LETTER, REASON_CHARACTERS
from airflow_monai.broker.frames import UNREADABLE, can_be_encoded
from airflow_monai.broker.link import Link, Outgoing, as_ours
from airflow_monai.errors import BrokerError
from airflow_monai.tls import client_context

CONFIRM_SECONDS = 10.0
CONNECT_SECONDS = 15.0
_INTERNAL_HEADERS = ("x-monai-token", "x-delivery-count", "x-acquired-count", "CC", "BCC")
"""Not published again. By the last two a sender names more queues, each of which would get one more with each time."""
_EXISTS_OTHERWISE = 406


@dataclass(frozen=True, slots=True)
class RabbitOptions:
    """What a connection says of a RabbitMQ.

    :param delivery_limit: after how many deliveries, each to a consumer that died with it, a message is a dead letter.
    :param prefetch: how many messages of a queue a consumer may hold at a time.
    """

    host: str
    port: int
    login: str
    password: str
    virtual_host: str
    exchange: str
    dead_letter_exchange: str
    delivery_limit: int
    prefetch: int
    heartbeat: int
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, address: BrokerAddress) -> RabbitOptions:
        """:raises BrokerMisused: when the connection cannot be used."""
        if not address.host:
            raise address.error("it has no host")
        tls = _tls(address)
        exchange = address.text("exchange", "monaideploy")
        return cls(
            host=address.host,
            port=address.port or (5671 if tls else 5672),
            login=address.login or "guest",
            password=address.password or "guest",
            virtual_host=address.path.strip() or "/",
            exchange=exchange,
            dead_letter_exchange=address.text("dead_letter_exchange", f"{exchange}{DEAD_LETTER}"),
            delivery_limit=address.number("delivery_limit", 20, 1, 10_000),
            prefetch=address.number("prefetch", 50, 1, 2000),
            heartbeat=address.number("heartbeat", 10, 2, 600),
            tls=tls,
        )


def _tls(address: BrokerAddress) -> ssl.SSLContext | None:
    """TLS as the connection wants it; the broker's certificate is checked unless ``check_certificate`` says false."""
    if not address.flag("tls", default=address.kind == "amqps"):
        return None
    cert = address.client_certificate()
    verify: bool | str = address.text("ca_file") or True
    if not address.flag("check_certificate", default=True):
        verify = False
    try:
        return client_context(verify, cert, address.flag("check_host", default=True))
    except (OSError, ValueError) as error:
        raise address.error(f"its certificates cannot be used ({getattr(error, 'reason', '') or error})") from None


class RabbitMq(Broker):
    """A RabbitMQ, or whatever speaks AMQP 0-9-1 with quorum queues."""

    def __init__(self, address: BrokerAddress):
        super().__init__(address)
        self.options = RabbitOptions.of(address)

    def parameters(self) -> pika.ConnectionParameters:
        """pika's parameters; heartbeats tell a dead peer within twice their time."""
        options = self.options
        return pika.ConnectionParameters(
            host=options.host,
            port=options.port,
            virtual_host=options.virtual_host,
            credentials=pika.PlainCredentials(options.login, options.password),
            heartbeat=options.heartbeat,
            blocked_connection_timeout=60,
            socket_timeout=CONNECT_SECONDS / 2,
            stack_timeout=CONNECT_SECONDS,
            connection_attempts=1,
            ssl_options=pika.SSLOptions(options.tls, options.host) if options.tls else None,
            client_properties={"product": "airflow-monai"},
        )

    def publisher(self) -> Publisher:
        return _Publisher(self)

    def subscribed(self, wanted: Wanted) -> Subscription:
        return _Subscription(self, wanted)

    def test(self) -> str:
        options = self.options
        with _Blocking(self) as connection:
            try:
                connection.channel().exchange_declare(options.exchange, passive=True)
                there = "is there"
            except ChannelClosedByBroker:
                there = "will be made"
        tls = " by TLS" if options.tls else ""
        return f"Logged in at {options.host}:{options.port}{tls}; the exchange {options.exchange!r} {there}."

    def declare(self, topics: Sequence[str]) -> None:
        """Make exchanges, queues and dead-letter queues. What is there with other arguments is used as it is.

        :raises BrokerError: when that cannot be done.
        """
        options = self.options
        with _Blocking(self) as connection:
            for exchange in (options.exchange, options.dead_letter_exchange):
                self._exchange(connection, exchange)
            for topic in topics:
                limited = {"x-delivery-limit": options.delivery_limit}
                self._queue(connection, topic, {**limited, "x-dead-letter-exchange": options.dead_letter_exchange})
                self._queue(connection, f"{topic}{DEAD_LETTER}", {})
                channel = connection.channel()
                channel.queue_bind(topic, options.exchange, topic)
                channel.queue_bind(f"{topic}{DEAD_LETTER}", options.dead_letter_exchange, topic)
                channel.close()

    def _exchange(self, connection: Any, name: str) -> None:
        self._declared(
            connection, lambda channel, passive: channel.exchange_declare(name, "topic", durable=True, passive=passive)
        )

    def _queue(self, connection: Any, name: str, arguments: dict[str, Any]) -> None:
        arguments = {"x-queue-type": "quorum", **arguments}
        self._declared(
            connection,
            lambda channel, passive: channel.queue_declare(name, durable=True, arguments=arguments, passive=passive),
        )

    def _declared(self, connection: Any, declare: Callable[[Any, bool], Any]) -> None:
        try:
            channel = connection.channel()
            declare(channel, False)
        except ChannelClosedByBroker as error:
            if error.reply_code != _EXISTS_OTHERWISE:
                raise
            channel = connection.channel()
            declare(channel, True)
        channel.close()

    def properties(self, message: Message, headers: dict[str, Any] | None = None) -> pika.BasicProperties:
        """A message's properties; it is kept on disk."""
        kept = {
            name: value
            for name, value in message.headers.items()
            if name not in _INTERNAL_HEADERS and can_be_encoded(value)
        }
        return pika.BasicProperties(
            content_type=message.content_type or None,
            headers={**kept, **(headers or {})},
            delivery_mode=2,
            correlation_id=message.correlation_id or None,
            message_id=message.message_id or None,
            timestamp=message.timestamp,
            type=message.type or None,
            app_id=message.app_id or None,
        )


class _Blocking:
    """A connection for a few commands."""

    def __init__(self, broker: RabbitMq):
        self._broker = broker
        self._connection: Any = None

    def __enter__(self) -> Any:
        try:
            self._connection = pika.BlockingConnection(self._broker.parameters())
        except (AMQPError, OSError) as error:
            raise as_ours(self._broker.address.name, error) from None
        return self._connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if self._connection.is_open:
                self._connection.close()
        except (AMQPError, OSError):
            pass
        if isinstance(error, (AMQPError, OSError)):
            raise as_ours(self._broker.address.name, error) from None


class _Publisher:
    """Publishes by a connection of its own."""

    def __init__(self, broker: RabbitMq):
        self._broker = broker
        self._link = Link(broker.address.name, broker.parameters, before=self._declare, for_ever=False)

    def _declare(self) -> None:
        self._broker.declare(())

    def __enter__(self) -> _Publisher:
        self._link.start()
        try:
            self._link.wait(CONNECT_SECONDS * 2)
        except BaseException:
            self._link.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._link.stop()

    def publish(self, message: Message) -> None:
        outgoing = Outgoing(
            self._broker.options.exchange,
            message.topic,
            message.body,
            self._broker.properties(message),
            message.needs_queue,
        )
        _within(self._link.publish(outgoing), self._broker.address)


class _Subscription:
    """Consumes topics by a connection of its own, which is made anew whenever it is lost."""

    def __init__(self, broker: RabbitMq, wanted: Wanted):
        self._broker = broker
        self._wanted = wanted
        self._closing = threading.Event()
        self.link = Link(
            broker.address.name,
            broker.parameters,
            before=lambda: broker.declare(wanted.topics),
            ready=self._consume,
            told=wanted.told,
        )
        self.link.start()

    def close(self, grace: float = 10.0) -> None:
        self._closing.set()
        self.link.stop(grace)

    def _consume(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=self._broker.options.prefetch)  # for each consumer of the channel
        for topic in self._wanted.topics:
            channel.basic_consume(topic, partial(self._delivered, topic))

    def _delivered(self, topic: str, channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if not self._closing.is_set():
            message = _message(topic, properties, body)
            self._wanted.handler(_Delivery(self._broker, self.link, channel, method.delivery_tag, message))


def _message(topic: str, properties: pika.BasicProperties, body: bytes) -> Message:
    headers = dict(properties.headers or {})
    return Message(
        topic=topic,
        body=body,
        message_id=_text(properties.message_id),
        correlation_id=_text(properties.correlation_id),
        app_id=_text(properties.app_id),
        content_type=_text(properties.content_type),
        type=_text(properties.type),
        timestamp=properties.timestamp,
        headers=headers,
        problem="The message has headers that cannot be read." if headers.pop(UNREADABLE, False) else "",
    )


def _text(value: str | bytes | None) -> str:
    """A property; pika leaves one that is no UTF-8 as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


class _Delivery:
    """A message of a queue, to be answered on the channel that it came by."""

    def __init__(self, broker: RabbitMq, link: Link, channel: Any, tag: int, message: Message):
        self.message = message
        self._broker, self._link, self._channel, self._tag = broker, link, channel, tag

    def ack(self) -> bool:
        return self._answered(None)

    def reject(self, reason: str) -> bool:
        headers = {REASON_HEADER: reason[:REASON_CHARACTERS]}
        properties = self._broker.properties(self.message, headers)
        exchange = self._broker.options.dead_letter_exchange
        return self._answered(Outgoing(exchange, self.message.topic, self.message.body, properties))

    def requeue(self) -> bool:
        properties = self._broker.properties(self.message)
        # by the default exchange, which leads to the queue of this name and to no other
        return self._answered(Outgoing("", self.message.topic, self.message.body, properties))

    def _answered(self, elsewhere: Outgoing | None) -> bool:
        """Acknowledge it, after it lies elsewhere."""
        try:
            if elsewhere is not None:
                _within(self._link.publish(elsewhere, self._channel), self._broker.address)
            _within(self._link.call(self._channel, lambda: self._channel.basic_ack(self._tag)), self._broker.address)
        except BrokerError:
            # the dead letters have no queue, or the broker was too slow: connect, and so declare, anew, or the message
            # would stay unanswered for as long as the connection holds
            self._link.call(self._channel, self._channel.close)
            return False
        return True


def _within(future: Any, address: BrokerAddress) -> None:
    """What a future comes to within the time for confirmations."""
    try:
        future.result(CONFIRM_SECONDS)
    except FutureTimeout:
        raise address.unconfirmed(CONFIRM_SECONDS) from None
