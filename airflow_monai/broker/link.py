"""One AMQP connection, and the thread that serves it: heartbeats go on whatever others do with its messages."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pika
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from airflow_monai.broker.frames import Connection
from airflow_monai.errors import BrokerError, BrokerMisused, BrokerUnavailable

logging.getLogger("pika").setLevel(logging.CRITICAL)  # what it says with tracebacks, this module says in a line

FIRST_WAIT, LAST_WAIT = 0.5, 30.0
_TOKEN = "x-monai-token"
_ACCESS_REFUSED, _NOT_FOUND, _PRECONDITION_FAILED = 403, 404, 406


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is to be published, and how.

    :param mandatory: it is an error when no queue wants it.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: pika.BasicProperties
    mandatory: bool = True


@dataclass(slots=True)
class _Unconfirmed:
    """A message that the broker has not confirmed yet."""

    future: Future[None]
    routing_key: str
    returned: bool = False


class Link:
    """Holds a connection with one channel in confirm mode.

    :param parameters: makes pika's parameters, again for each connection.
    :param before: called on this thread before each connection, to declare what it needs.
    :param ready: called on this thread with the channel when it may be used.
    :param told: hears why there is no connection now, and None when there is one.
    :param for_ever: connect again when the connection is lost.
    """

    def __init__(
        self,
        name: str,
        parameters: Callable[[], pika.ConnectionParameters],
        *,
        before: Callable[[], None] = lambda: None,
        ready: Callable[[Any], None] = lambda channel: None,
        told: Callable[[str | None], None] = lambda reason: None,
        for_ever: bool = True,
    ):
        self.name = name
        self._parameters = parameters
        self._before, self._ready, self._told = before, ready, told
        self._for_ever = for_ever
        self._lock = threading.Lock()
        self._connection: Any = None
        self._channel: Any = None
        self._unconfirmed: dict[int, _Unconfirmed] = {}
        self._published = 0
        self._error: BrokerError | None = None
        self._stopped = threading.Event()
        self._up = threading.Event()  # there is a channel, or there never will be
        self._thread = threading.Thread(target=self._run, name=f"amqp-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Return when there is a channel.

        :raises BrokerError: when there is none after so long, or never will be.
        """
        ended = self._up.wait(seconds)
        if self._channel is None:
            raise self._error or BrokerUnavailable(
                f"Broker {self.name}: no connection within {seconds:g} s."
                if not ended
                else f"Broker {self.name}: lost."
            )

    def stop(self, seconds: float = 5.0) -> None:
        """Close the connection; what was not acknowledged goes back."""
        self._stopped.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            with suppress(Exception):  # it may be closing by itself just now
                connection.ioloop.add_callback_threadsafe(lambda: _close(connection))
        if self._thread.is_alive():
            self._thread.join(seconds)

    def call(self, channel: Any, work: Callable[[], None]) -> Future[None]:
        """Do something on the connection's thread, as long as it has this channel."""
        future: Future[None] = Future()

        def run() -> None:
            if channel is not self._channel or not channel.is_open:
                future.set_exception(BrokerUnavailable(f"Broker {self.name}: the connection was lost."))
                return
            try:
                work()
            except AMQPError as error:
                future.set_exception(self._as_ours(error))
            else:
                future.set_result(None)

        self._schedule(run, future)
        return future

    def publish(self, outgoing: Outgoing, channel: Any = None) -> Future[None]:
        """Publish; the future ends when the broker has confirmed, or has said that it does not take it.

        :param channel: only on this one; by default on the one there is.
        """
        future: Future[None] = Future()

        def run() -> None:
            there = self._channel
            if there is None or not there.is_open or channel not in (None, there):
                future.set_exception(BrokerUnavailable(f"Broker {self.name}: the connection was lost."))
                return
            self._published += 1
            number = self._published
            self._unconfirmed[number] = _Unconfirmed(future, outgoing.routing_key)
            outgoing.properties.headers = {**(outgoing.properties.headers or {}), _TOKEN: number}
            try:
                there.basic_publish(
                    outgoing.exchange,
                    outgoing.routing_key,
                    outgoing.body,
                    outgoing.properties,
                    mandatory=outgoing.mandatory,
                )
            except AMQPError as error:
                self._unconfirmed.pop(number, None)
                future.set_exception(self._as_ours(error))

        self._schedule(run, future)
        return future

    def _schedule(self, run: Callable[[], None], future: Future[None]) -> None:
        with self._lock:
            connection = self._connection if self._channel is not None else None
        try:
            if connection is None:
                raise BrokerUnavailable(f"Broker {self.name}: there is no connection now.")
            connection.ioloop.add_callback_threadsafe(run)
        except Exception as error:  # noqa: BLE001 - the loop may be closed at any moment
            future.set_exception(error if isinstance(error, BrokerError) else self._as_ours(error))

    def _run(self) -> None:
        """The thread."""
        wait = FIRST_WAIT
        while not self._stopped.is_set():
            self._error = None
            was_up = self._one_connection()
            if not self._for_ever:
                break
            if self._stopped.is_set():
                return
            self._told(str(self._error or f"Broker {self.name}: the connection was lost."))
            wait = FIRST_WAIT if was_up else min(wait * 2, LAST_WAIT)
            self._stopped.wait(wait * random.uniform(0.5, 1.0))
        self._up.set()

    def _one_connection(self) -> bool:
        """Serve a connection until it ends; whether it was of use."""
        connection: Any = None
        began = time.monotonic()
        try:
            self._before()
            connection = Connection(
                self._parameters(),
                on_open_callback=self._opened,
                on_open_error_callback=self._not_opened,
                on_close_callback=self._closed,
            )
            with self._lock:
                self._connection = connection
            if self._stopped.is_set():
                return False
            connection.ioloop.start()
        except (AMQPError, OSError, BrokerError) as error:
            self._error = self._as_ours(error)
        except Exception as error:  # noqa: BLE001 - the edge of this thread; it must go on connecting
            self._error = BrokerUnavailable(f"Broker {self.name}: internal error, {type(error).__name__}.")
        finally:
            with self._lock:
                self._connection, was_up, self._channel = None, self._channel is not None, None
            self._fail_unconfirmed()
            if connection is not None:
                with suppress(Exception):
                    connection.ioloop.close()
        return was_up and time.monotonic() - began > FIRST_WAIT

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._channel_opened)

    def _not_opened(self, connection: Any, error: BaseException | str) -> None:
        self._error = self._as_ours(error)
        connection.ioloop.stop()

    def _closed(self, connection: Any, reason: BaseException) -> None:
        if self._error is None:
            self._error = self._as_ours(reason)
        connection.ioloop.stop()

    def _channel_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_cancel_callback(lambda frame: _close(channel.connection))  # the queue is gone: declare it again
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda frame: self._usable(channel))

    def _usable(self, channel: Any) -> None:
        self._published = 0
        with self._lock:
            self._channel = channel
        self._ready(channel)
        self._told(None)
        self._up.set()

    def _channel_closed(self, channel: Any, reason: BaseException) -> None:
        if self._error is None:
            self._error = self._as_ours(reason)
        _close(channel.connection)

    def _returned(self, channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        waiting = self._unconfirmed.get((properties.headers or {}).get(_TOKEN, 0))
        if waiting is not None:
            waiting.returned = True

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        last = method.delivery_tag
        numbers = [number for number in self._unconfirmed if number <= last] if method.multiple else [last]
        for number in numbers:
            waiting = self._unconfirmed.pop(number, None)
            if waiting is None:
                continue
            if waiting.returned:
                waiting.future.set_exception(
                    BrokerMisused(
                        f"Broker {self.name}: no queue wants messages of topic {waiting.routing_key!r}. Start what "
                        "should receive them, or correct the topic."
                    )
                )
            elif isinstance(method, pika.spec.Basic.Ack):
                waiting.future.set_result(None)
            else:
                message = f"Broker {self.name}: it could not store a message of topic {waiting.routing_key!r}."
                waiting.future.set_exception(BrokerUnavailable(message))

    def _fail_unconfirmed(self) -> None:
        waiting, self._unconfirmed = self._unconfirmed, {}
        for item in waiting.values():
            item.future.set_exception(
                self._error or BrokerUnavailable(f"Broker {self.name}: the connection was lost before a confirmation.")
            )

    def _as_ours(self, error: BaseException | str) -> BrokerError:
        """An error as one of ours; only what a person has to correct is misuse."""
        if isinstance(error, BrokerError):
            return error
        return as_ours(self.name, error)


def as_ours(name: str, error: BaseException | str) -> BrokerError:
    """An error of the client library as one of ours."""
    if isinstance(error, (ProbableAuthenticationError, AuthenticationError)):
        return BrokerMisused(f"Broker {name}: it refuses the login. Correct login and password of its connection.")
    if isinstance(error, ProbableAccessDeniedError):
        return BrokerMisused(f"Broker {name}: it refuses the virtual host. Correct it, or this user's permissions.")
    if isinstance(error, (ChannelClosedByBroker, ConnectionClosedByBroker)):
        text = f"Broker {name}: it says {error.reply_code} {error.reply_text}."
        misused = error.reply_code in (_ACCESS_REFUSED, _NOT_FOUND, _PRECONDITION_FAILED)
        return (BrokerMisused if misused else BrokerUnavailable)(text)
    causes = [part for part in (getattr(error, "exception", None), *getattr(error, "args", ())) if part is not None]
    cause = next((part for part in causes if isinstance(part, BaseException)), error)
    said = getattr(cause, "strerror", None) or (str(cause) if isinstance(cause, str) else type(cause).__name__)
    return BrokerUnavailable(f"Broker {name}: it cannot be reached, or hung up ({said}).")


def _close(connection: Any) -> None:
    if connection.is_open:
        connection.close()
    elif not connection.is_closing:
        connection.ioloop.stop()
