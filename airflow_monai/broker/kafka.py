"""Apache Kafka: a topic for each of ours, a consumer group, offsets that are committed when all before them is done.

A message that is put back is written again at the end of its topic, a rejected one to ``<topic>-dead-letter`` with the
reason; only then does it count as done. What is done out of order is kept in mind, not in Kafka: after a crash it comes
again, which does no harm. The metadata of a group's offset counts how often the first message that is not done has been
handed out, so that one that kills its consumers becomes a dead letter after ``delivery_limit`` times.

Messages of one correlation id keep their order: it is their key, which chooses the partition.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from airflow_monai.broker.base import Broker, BrokerAddress, Message, Publisher, Subscription, Wanted
from airflow_monai.broker.consuming import DEAD_LETTER, Consumer, Rewritten
from airflow_monai.broker.texts import message_from, texts_of
from airflow_monai.errors import BrokerError, BrokerMisused

log = logging.getLogger(__name__)

CONFIRM_SECONDS = 10.0
CONNECT_SECONDS = 15.0
CREATE_SECONDS = 10.0
LOOK_SECONDS = 3.0
_POLL_SECONDS = 0.2
MOST_BYTES = 100 * 1024**2
"""Of a message, so that the limit of the cluster counts, not the client's of 1 MB."""
_MISUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._INVALID_ARG,
    }
)
_NO_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """What a connection says of a Kafka.

    :param client: librdkafka's settings that all clients share; they may hold a password.
    :param group: consumer group; those of one group share the messages.
    :param prefetch: how many messages a consumer may hold at a time.
    :param partitions: and ``replicas`` of topics that do not exist yet; -1: as the cluster says.
    """

    servers: str
    client: Mapping[str, Any] = field(repr=False)
    group: str
    prefetch: int
    delivery_limit: int
    partitions: int
    replicas: int

    @classmethod
    def of(cls, address: BrokerAddress) -> KafkaOptions:
        """:raises BrokerMisused: when the connection cannot be used."""
        if not address.host:
            raise address.error("it has no host")
        servers = ",".join(
            host.strip() if ":" in host else f"{host.strip()}:{address.port or 9092}"
            for host in address.host.split(",")
            if host.strip()
        )
        return cls(
            servers=servers,
            client={"bootstrap.servers": servers, **_security(address)},
            group=address.text("group", "airflow-monai"),
            prefetch=address.number("prefetch", 50, 1, 2000),
            delivery_limit=address.number("delivery_limit", 20, 1, 10_000),
            partitions=address.number("partitions", -1, -1, 1000),
            replicas=address.number("replicas", -1, -1, 100),
        )


def _security(address: BrokerAddress) -> dict[str, Any]:
    """TLS and the login, by librdkafka's names."""
    tls = address.flag("tls")
    found: dict[str, Any] = {"security.protocol": ("SASL_" if address.login else "") + ("SSL" if tls else "PLAINTEXT")}
    if address.login:
        mechanism = address.text("mechanism", "PLAIN").upper()
        if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            raise address.error(f"mechanism = {mechanism!r} is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512")
        found |= {
            "sasl.mechanisms": mechanism,
            "sasl.username": address.login,
            "sasl.password": address.password,
        }
    if tls:
        if address.text("ca_file"):
            found["ssl.ca.location"] = address.text("ca_file")
        if cert := address.client_certificate():
            found |= {"ssl.certificate.location": cert[0], "ssl.key.location": cert[-1]}
        if not address.flag("check_certificate", default=True):
            found["enable.ssl.certificate.verification"] = False
        if not address.flag("check_host", default=True):
            found["ssl.endpoint.identification.algorithm"] = "none"
    return found


class Kafka(Broker):
    """A Kafka cluster, or whatever speaks its protocol."""

    def __init__(self, address: BrokerAddress):
        super().__init__(address)
        self.options = KafkaOptions.of(address)

    def publisher(self) -> Publisher:
        return _Publisher(self)

    def subscribed(self, wanted: Wanted) -> Subscription:
        return _Subscription(self, wanted)

    def test(self) -> str:
        try:
            found = AdminClient(self.configured()).list_topics(timeout=CONNECT_SECONDS)
        except KafkaException as error:
            raise self.as_ours(error) from None
        return f"Connected to {self.options.servers}: {len(found.brokers)} brokers, {len(found.topics)} topics."

    def configured(self, **more: Any) -> dict[str, Any]:
        """A client's settings; it logs nothing by itself."""
        try:
            return {**self.options.client, "client.id": "airflow-monai", "log_level": 2, **more}
        except TypeError as error:
            raise self.address.error(str(error)) from None

    def declare(self, topics: Sequence[str]) -> None:
        """Make the topics and those of their dead letters, where they do not exist and we may.

        :raises BrokerUnavailable: when the cluster is out of reach.
        """
        wanted = [name for topic in topics for name in (topic, f"{topic}{DEAD_LETTER}")]
        admin = AdminClient(self.configured())
        try:
            there = admin.list_topics(timeout=CONNECT_SECONDS).topics
        except KafkaException as error:
            raise self.as_ours(error) from None
        new = [
            NewTopic(name, num_partitions=self.options.partitions, replication_factor=self.options.replicas)
            for name in wanted
            if name not in there
        ]
        for name, made in (admin.create_topics(new, request_timeout=CREATE_SECONDS) if new else {}).items():
            try:
                made.result(CREATE_SECONDS)
            except (KafkaException, FutureTimeout) as error:  # some make topics themselves only
                log.debug("Broker %s: topic %s was not made: %s", self.address.name, name, error)

    def producer(self) -> Producer:
        """Tells success when all replicas that are in sync have a message, and writes none twice."""
        seconds = int(CONFIRM_SECONDS * 1000)
        return Producer(
            self.configured(
                acks="all",
                **{
                    "enable.idempotence": True,
                    "message.timeout.ms": seconds,
                    "linger.ms": 0,
                    "message.max.bytes": MOST_BYTES,
                },
            )
        )

    def as_ours(self, error: KafkaException | KafkaError) -> BrokerError:
        """An error of the client's as one of ours."""
        reason = error.args[0] if isinstance(error, KafkaException) else error
        if isinstance(reason, KafkaError) and reason.code() in _MISUSED:
            return self.address.error(f"it refuses: {reason.str()}")
        said = reason.str() if isinstance(reason, KafkaError) else str(reason)
        if isinstance(reason, KafkaError) and reason.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return BrokerMisused(
                f"Broker {self.address.name}: a message is too large for Kafka: {said}. Raise max.message.bytes of its "
                "topic, or message.max.bytes of the cluster (1 MB where nothing is set)."
            )
        return self.address.away(f"Kafka at {self.options.servers} cannot be reached: {said}")


def _written(broker: Kafka, producer: Producer, topic: str, message: Message, headers: Mapping[str, str]) -> None:
    """Write a message, and return when the cluster has confirmed it.

    :raises BrokerError: when it has not.
    """
    outcome: list[KafkaError | None] = []
    done = threading.Event()

    def delivered(error: KafkaError | None, _: Any) -> None:
        outcome.append(error)
        done.set()

    try:
        producer.produce(
            topic,
            value=message.body,
            key=message.correlation_id.encode() or None,
            headers=[
                (name, value.encode("utf-8", "replace")) for name, value in {**texts_of(message), **headers}.items()
            ],
            on_delivery=delivered,
        )
    except BufferError:
        raise broker.address.away("it takes no messages now") from None
    except KafkaException as error:
        raise broker.as_ours(error) from None
    end = time.monotonic() + CONFIRM_SECONDS + 5
    while not done.is_set() and time.monotonic() < end:
        producer.poll(0.05)
    if not outcome:
        raise broker.address.unconfirmed(CONFIRM_SECONDS)
    failed = outcome[0]
    if failed is None:
        return
    if failed.code() in _NO_TOPIC:
        if not message.needs_queue:
            return
        raise BrokerMisused(
            f"Broker {broker.address.name}: there is no topic {topic!r}, and none is made by itself. Create it."
        )
    raise broker.as_ours(failed)


def _message(topic: str, record: Any) -> Message:
    headers = {str(name): _text(value) for name, value in record.headers() or ()}
    return message_from(topic, record.value() or b"", headers)


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


class _Publisher:
    def __init__(self, broker: Kafka):
        self._broker = broker
        self._producer: Producer | None = None

    def __enter__(self) -> _Publisher:
        try:
            self._producer = self._broker.producer()
            self._producer.list_topics(timeout=CONNECT_SECONDS)
        except KafkaException as error:
            raise self._broker.as_ours(error) from None
        return self

    def __exit__(self, *error: object) -> None:
        self._producer = None

    def publish(self, message: Message) -> None:
        assert self._producer is not None, "use it as a context"
        _written(self._broker, self._producer, message.topic, message, {})


@dataclass
class _Partition:
    """What of a partition that is ours has been handed out and is not committed.

    :ivar done: offset -> whether it is done, in order.
    :ivar committed: the offset from which the group would go on.
    :ivar deliveries: how often the message at that offset has been handed out.
    """

    committed: int = -1
    deliveries: int = 0
    done: dict[int, bool] = field(default_factory=dict)


class _Subscription(Consumer):
    """Consumes by one thread, which answers are told to the cluster by, too."""

    errors = (KafkaException,)

    def __init__(self, broker: Kafka, wanted: Wanted):
        super().__init__(broker.address, wanted)
        self._broker = broker
        self._lock = threading.RLock()
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._paused = False
        self._anew = threading.Event()
        self.producer = broker.producer()
        self.consumer: Client | None = None
        self.start()

    def _as_ours(self, error: Any) -> BrokerError:
        return self._broker.as_ours(error)

    def _consume(self) -> None:
        settings = {
            "group.id": self._broker.options.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 10_000,
            "max.poll.interval.ms": 300_000,
            "queued.max.messages.kbytes": 16_384,
            "error_cb": self._failed,
        }
        self._anew.clear()
        self._broker.declare(self.wanted.topics)
        self.consumer = consumer = Client(self._broker.configured(**settings))
        try:
            consumer.subscribe(
                list(self.wanted.topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
            while not (self.closing.is_set() or self._anew.is_set()):
                self._keep_to_prefetch(consumer)
                record = consumer.poll(_POLL_SECONDS)
                if record is None:
                    self._look_again(consumer)
                elif (error := record.error()) is None:
                    self.tell(None)
                    self._took(record)
                elif error.code() not in _NO_TOPIC:
                    self._failed(error)
        finally:
            with self._lock:
                self._partitions.clear()  # what is answered later has no effect
                self.consumer = None
            consumer.close()

    def _assigned(self, consumer: Client, partitions: list[TopicPartition]) -> None:
        known = {(item.topic, item.partition): item for item in consumer.committed(partitions, timeout=CONNECT_SECONDS)}
        with self._lock:
            for item in partitions:
                at = known[item.topic, item.partition]
                self._partitions[item.topic, item.partition] = _Partition(at.offset, _deliveries(at.metadata))
        self._paused = False
        if partitions:
            self.tell(None)

    def _revoked(self, _: Client, partitions: list[TopicPartition]) -> None:
        with self._lock:
            for item in partitions:
                self._partitions.pop((item.topic, item.partition), None)

    def _failed(self, error: KafkaError) -> None:
        """What the client says by itself. That one of several brokers is away keeps nobody from anything."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN or error.code() in _MISUSED:
            self.tell(str(self._broker.as_ours(error)))

    def _look_again(self, consumer: Client) -> None:
        """Why no message can come, as long as that is so: a cluster that is away, a topic that is missing."""
        if self.state.reason is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            there = consumer.list_topics(timeout=2.0).topics
        except KafkaException as error:
            self.tell(str(self._broker.as_ours(error)))
            return
        if missing := [topic for topic in self.wanted.topics if topic not in there]:
            name = self._broker.address.name
            self.tell(f"Broker {name}: there is no topic {missing[0]!r}, and none could be made. Create it.")
        elif consumer.assignment():
            self.tell(None)

    def _keep_to_prefetch(self, consumer: Client) -> None:
        with self._lock:
            held = sum(not done for partition in self._partitions.values() for done in partition.done.values())
        full = held >= self._broker.options.prefetch
        if full != self._paused and (assigned := consumer.assignment()):
            (consumer.pause if full else consumer.resume)(assigned)
            self._paused = full

    def _took(self, record: Any) -> None:
        topic, number, offset = record.topic(), record.partition(), record.offset()
        with self._lock:
            partition = self._partitions.get((topic, number))
            if partition is None:
                return
            partition.done[offset] = False
            is_first = next(iter(partition.done)) == offset
        delivery = _Delivery(self, partition, topic, number, offset, _message(topic, record))
        if is_first and not self._counts(partition, topic, number, offset):
            times = self._broker.options.delivery_limit
            many = "1 time, to a consumer" if times == 1 else f"{times} times, each to a consumer"
            delivery.reject(f"it was handed out {many} that died with it")
            return
        self.wanted.handler(delivery)

    def _counts(self, partition: _Partition, topic: str, number: int, offset: int) -> bool:
        """Count that the first message that is not done is handed out; False when that was too often."""
        if partition.deliveries >= self._broker.options.delivery_limit:
            return False
        partition.deliveries += 1
        self._commit(partition, topic, number, offset)
        return True

    def answered(self, delivery: _Delivery) -> bool:
        """Take a message for done; whether that is known to the cluster, or will be when all before it is done."""
        with self._lock:
            partition = self._partitions.get((delivery.topic, delivery.number))
            if partition is not delivery.partition or delivery.offset not in partition.done:
                return False
            partition.done[delivery.offset] = True
            following = -1
            for offset in list(partition.done):
                if not partition.done[offset]:
                    break
                following = offset + 1
                del partition.done[offset]
            if following < 0:
                return True
            partition.deliveries = 1 if partition.done else 0
            return self._commit(partition, delivery.topic, delivery.number, following)

    def _commit(self, partition: _Partition, topic: str, number: int, offset: int) -> bool:
        metadata = json.dumps({"deliveries": partition.deliveries})
        consumer = self.consumer
        if consumer is None:
            return False
        try:
            place = TopicPartition(topic, number, offset, metadata)
            (kept,) = consumer.commit(offsets=[place], asynchronous=False) or [place]
        except KafkaException as error:
            log.warning("Broker %s: what is done of %s cannot be told: %s", self._broker.address.name, topic, error)
            return False
        if kept.error is not None:
            return False
        partition.committed = offset
        return True

    def elsewhere(self, topic: str, message: Message, headers: Mapping[str, str]) -> bool:
        """Write a message again; whether it is confirmed.

        Where it is not, nobody has the message any more, and it would keep all that follow from being done: so all that
        is not done is handed out anew.
        """
        try:
            _written(self._broker, self.producer, topic, message, headers)
        except BrokerError as error:
            log.warning("%s", error)
            self._anew.set()
            return False
        return True


def _deliveries(metadata: str | None) -> int:
    try:
        return int(json.loads(metadata or "{}").get("deliveries", 0))
    except (ValueError, TypeError, AttributeError):
        return 0


class _Delivery(Rewritten):
    """A message, to be answered while its partition is ours."""

    def __init__(
        self,
        subscription: _Subscription,
        partition: _Partition,
        topic: str,
        number: int,
        offset: int,
        message: Message,
    ):
        self.message = message
        self.partition, self.topic, self.number, self.offset = partition, topic, number, offset
        self._subscription = subscription

    def ack(self) -> bool:
        return self._subscription.answered(self)

    def _write(self, topic: str, headers: Mapping[str, str]) -> bool:
        return self._subscription.elsewhere(topic, self.message, headers)
