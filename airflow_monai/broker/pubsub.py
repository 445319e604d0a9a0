"""Google Cloud Pub/Sub: a topic for each of ours, a subscription for each group, dead letters in a topic of their own.

    <topic>                a topic; ``<group>.<topic>`` its subscription, by which a group of gateways shares messages
    <topic>-dead-letter    the same for dead letters, so that they are kept until somebody looks

A message that is put back is published again, a rejected one to the dead letters with the reason, and then
acknowledged. One that is delivered again and again without an answer is moved to the dead letters by Pub/Sub itself,
after ``delivery_limit`` attempts, where its service account may publish there. Messages of one correlation id keep
their order.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.exceptions import AcknowledgeError
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import DeadLetterPolicy, Subscription

from airflow_monai.broker.base import Broker, BrokerAddress, Message, Publisher, Wanted
from airflow_monai.broker.base import Subscription as OurSubscription
from airflow_monai.broker.consuming import DEAD_LETTER, Consumer, Rewritten
from airflow_monai.broker.texts import message_from, texts_of
from airflow_monai.errors import BrokerError, BrokerMisused

log = logging.getLogger(__name__)

CONFIRM_SECONDS = 10.0
LOOK_SECONDS = 10.0
ACK_DEADLINE_SECONDS = 60
_ERRORS = (google_errors.GoogleAPIError, GoogleAuthError)
_MISUSED = (
    google_errors.PermissionDenied,
    google_errors.Unauthenticated,
    google_errors.InvalidArgument,
    google_errors.NotFound,
    GoogleAuthError,
)


@dataclass(frozen=True, slots=True)
class PubSubOptions:
    """What a connection says of Pub/Sub.

    :param endpoint: ``host:port`` in place of Google's own; ``insecure``: without TLS and log-in, as emulators are.
    :param key: of a service account, JSON; empty for what the machine has.
    :param group: those of one group share the messages.
    :param prefetch: how many messages a subscriber may hold at a time.
    """

    project: str
    endpoint: str
    insecure: bool
    key: Mapping[str, Any] = field(repr=False)
    group: str
    prefetch: int
    delivery_limit: int

    @classmethod
    def of(cls, address: BrokerAddress) -> PubSubOptions:
        """:raises BrokerMisused: when the connection cannot be used."""
        project = address.text("project") or address.path.strip()
        if not project:
            raise address.error("it names no project")
        endpoint = f"{address.host}:{address.port or 443}" if address.host else ""
        return cls(
            project=project,
            endpoint=endpoint,
            insecure=bool(endpoint) and address.flag("insecure"),
            key=_key(address),
            group=address.text("group", "airflow-monai"),
            prefetch=address.number("prefetch", 50, 1, 2000),
            delivery_limit=address.number("delivery_limit", 20, 5, 100),
        )


def _key(address: BrokerAddress) -> Mapping[str, Any]:
    if not address.password:
        return {}
    try:
        key = json.loads(address.password)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        raise address.error("its password is no key of a service account (JSON)")
    return key


class PubSub(Broker):
    """Google Cloud Pub/Sub, or its emulator."""

    def __init__(self, address: BrokerAddress):
        super().__init__(address)
        self.options = PubSubOptions.of(address)

    def publisher(self) -> Publisher:
        return _Publisher(self)

    def subscribed(self, wanted: Wanted) -> OurSubscription:
        return _Subscription(self, wanted)

    def test(self) -> str:
        try:
            with self.publisher_client() as client:
                found = list(
                    client.list_topics(project=f"projects/{self.options.project}", retry=None, timeout=CONFIRM_SECONDS)
                )
        except _ERRORS as error:
            raise self.as_ours(error) from None
        return f"Project {self.options.project} has {len(found)} topics."

    def publisher_client(self) -> pubsub_v1.PublisherClient:
        ordered = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
        batch = pubsub_v1.types.BatchSettings(max_latency=0.005)
        return pubsub_v1.PublisherClient(batch, ordered, **self._access(PublisherGrpcTransport))

    def subscriber_client(self) -> pubsub_v1.SubscriberClient:
        return pubsub_v1.SubscriberClient(**self._access(SubscriberGrpcTransport))

    def _access(self, transport: Any) -> dict[str, Any]:
        options = self.options
        if options.insecure:
            channel = grpc.insecure_channel(options.endpoint)
            return {"transport": transport(channel=channel, credentials=AnonymousCredentials())}
        found: dict[str, Any] = (
            {"client_options": ClientOptions(api_endpoint=options.endpoint)} if options.endpoint else {}
        )
        if options.key:
            from google.oauth2.service_account import Credentials

            try:
                found["credentials"] = Credentials.from_service_account_info(options.key)
            except (ValueError, KeyError) as error:
                raise self.address.error(f"its key cannot be used ({type(error).__name__})") from None
        return found

    def topic(self, topic: str) -> str:
        return f"projects/{self.options.project}/topics/{topic}"

    def subscription(self, topic: str) -> str:
        return f"projects/{self.options.project}/subscriptions/{self.options.group}.{topic}"

    def declare(self, topics: Sequence[str]) -> None:
        """Make topics and subscriptions where they do not exist; what is there otherwise is used as it is.

        :raises BrokerError: when that cannot be done.
        """
        try:
            with self.publisher_client() as publisher, self.subscriber_client() as subscriber:
                for topic in topics:
                    dead = f"{topic}{DEAD_LETTER}"
                    for name in (dead, topic):
                        _made(
                            partial(publisher.create_topic, name=self.topic(name), retry=None, timeout=CONFIRM_SECONDS)
                        )
                    policy = DeadLetterPolicy(
                        dead_letter_topic=self.topic(dead), max_delivery_attempts=self.options.delivery_limit
                    )
                    self._subscribe(subscriber, dead, None)
                    self._subscribe(subscriber, topic, policy)
        except _ERRORS as error:
            raise self.as_ours(error) from None

    def _subscribe(self, client: pubsub_v1.SubscriberClient, topic: str, policy: DeadLetterPolicy | None) -> None:
        wanted = Subscription(
            name=self.subscription(topic),
            topic=self.topic(topic),
            ack_deadline_seconds=ACK_DEADLINE_SECONDS,
            enable_message_ordering=True,
            dead_letter_policy=policy,
        )
        _made(partial(client.create_subscription, request=wanted, retry=None, timeout=CONFIRM_SECONDS))

    def as_ours(self, error: Exception) -> BrokerError:
        """An error of the client's as one of ours."""
        name, said = self.address.name, str(getattr(error, "message", "") or error)[:300]
        if isinstance(error, _MISUSED):
            return BrokerMisused(
                f"Broker {name}: Pub/Sub refuses: {said}. Correct the Airflow connection {name!r} or its rights."
            )
        return self.address.away(f"Pub/Sub cannot be reached: {said}")


def _made(make: Callable[[], Any]) -> None:
    try:
        make()
    except google_errors.AlreadyExists:
        pass


def _message(topic: str, received: Any) -> Message:
    return message_from(topic, received.data, {str(name): str(value) for name, value in received.attributes.items()})


def _published(broker: PubSub, client: pubsub_v1.PublisherClient, topic: str, message: Message, **more: str) -> None:
    """Publish, and return when Pub/Sub has it.

    :raises BrokerError: when it has not.
    """
    key, path = message.correlation_id, broker.topic(topic)
    try:
        sent = client.publish(path, message.body, ordering_key=key, **{**texts_of(message), **more})
        sent.result(CONFIRM_SECONDS)
    except (*_ERRORS, FutureTimeout) as error:
        _resume(client, path, key)
        if isinstance(error, google_errors.NotFound):
            if message.needs_queue:
                raise _no_queue(broker, topic) from None
            return
        if isinstance(error, FutureTimeout):
            raise broker.address.unconfirmed(CONFIRM_SECONDS) from None
        raise broker.as_ours(error) from None


def _resume(client: pubsub_v1.PublisherClient, path: str, key: str) -> None:
    """An error stops all that is to come with this key, until somebody says that it may go on."""
    try:
        if key:
            client.resume_publish(path, key)
    except RuntimeError:  # it was not stopped
        pass


def _no_queue(broker: PubSub, topic: str) -> BrokerMisused:
    return BrokerMisused(
        f"Broker {broker.address.name}: no subscription wants messages of topic {topic!r}, so they would be lost. Who "
        "is to get them must subscribe first."
    )


class _Publisher:
    def __init__(self, broker: PubSub):
        self._broker = broker
        self._wanted: set[str] = set()
        self._client: pubsub_v1.PublisherClient | None = None

    def __enter__(self) -> _Publisher:
        try:
            self._client = self._broker.publisher_client()
        except _ERRORS as error:
            raise self._broker.as_ours(error) from None
        return self

    def __exit__(self, *error: object) -> None:
        if self._client is not None:
            self._client.stop()
            self._client.transport.close()
            self._client = None

    def publish(self, message: Message) -> None:
        client = self._client
        assert client is not None, "use it as a context"
        if message.needs_queue and message.topic not in self._wanted:
            self._check_wanted(client, message.topic)
        _published(self._broker, client, message.topic, message)

    def _check_wanted(self, client: pubsub_v1.PublisherClient, topic: str) -> None:
        """A topic without a subscription keeps nothing."""
        try:
            found = next(
                iter(
                    client.list_topic_subscriptions(
                        topic=self._broker.topic(topic), retry=None, timeout=CONFIRM_SECONDS
                    )
                ),
                None,
            )
        except google_errors.NotFound:
            found = None
        except _ERRORS as error:
            raise self._broker.as_ours(error) from None
        if found is None:
            raise _no_queue(self._broker, topic)
        self._wanted.add(topic)


class _Subscription(Consumer):
    """A streaming pull for each topic, looked after by one thread."""

    errors = _ERRORS

    def __init__(self, broker: PubSub, wanted: Wanted):
        super().__init__(broker.address, wanted)
        self.broker = broker
        self._lock = threading.Lock()
        self.publisher: pubsub_v1.PublisherClient | None = None
        self.start()

    def _as_ours(self, error: Exception) -> BrokerError:
        return self.broker.as_ours(error)

    def _consume(self) -> None:
        self.broker.declare(self.wanted.topics)
        bounds = pubsub_v1.types.FlowControl(max_messages=self.broker.options.prefetch, max_lease_duration=86_400)
        with self.broker.subscriber_client() as client, self.broker.publisher_client() as publisher:
            self.publisher = publisher
            pulls = [
                client.subscribe(self.broker.subscription(topic), self._taker(topic), bounds)
                for topic in self.wanted.topics
            ]
            try:
                self._watch(client, pulls)
            finally:
                for pull in pulls:
                    pull.cancel()
                for pull in pulls:
                    try:
                        pull.result(5)
                    except Exception as error:  # noqa: BLE001 - it ends, whatever it says
                        log.debug("Broker %s: %s", self.broker.address.name, error)
                self.publisher = None

    def _watch(self, client: pubsub_v1.SubscriberClient, pulls: Sequence[Any]) -> None:
        """Return when it is to end; raise what ends a pull."""
        while not self.closing.is_set():
            for pull in pulls:
                if pull.done():
                    pull.result()
            for topic in self.wanted.topics:
                # without the client's own tries again: an outage is to be told, and begun anew from
                name = self.broker.subscription(topic)
                client.get_subscription(subscription=name, retry=None, timeout=CONFIRM_SECONDS)
            self.tell(None)
            self.closing.wait(LOOK_SECONDS)

    def _taker(self, topic: str) -> Callable[[Any], None]:
        def take(received: Any) -> None:
            if self.closing.is_set():
                received.nack()
                return
            with self._lock:
                self.wanted.handler(_Delivery(self, received, _message(topic, received)))

        return take


class _Delivery(Rewritten):
    def __init__(self, subscription: _Subscription, received: Any, message: Message):
        self.message = message
        self._subscription, self._received = subscription, received

    def ack(self) -> bool:
        if self._subscription.publisher is None:
            return False
        try:
            self._received.ack_with_response().result(CONFIRM_SECONDS)
        except (AcknowledgeError, FutureTimeout) as error:  # the message comes again
            log.warning("A message cannot be acknowledged: %s", error)
            return False
        return True

    def _write(self, topic: str, headers: Mapping[str, str]) -> bool:
        publisher = self._subscription.publisher
        if publisher is None:
            return False
        # an attribute has 1024 bytes at most
        short = {name: value.encode()[:1000].decode("utf-8", "ignore") for name, value in headers.items()}
        try:
            _published(self._subscription.broker, publisher, topic, self.message, **short)
        except BrokerError as error:
            log.warning("%s", error)
            self._received.nack()  # else it would be held, by who does not know of it any more
            return False
        return True
