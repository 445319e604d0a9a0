"""Messages through what speaks Kafka's protocol (tests/kafka_cluster.py says what it stands in for)."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.broker import base
from airflow_monai.broker import kafka as ours
from airflow_monai.broker.base import REASON_HEADER, BrokerAddress, Delivered, Message, message_of, open_broker
from airflow_monai.broker.kafka import DEAD_LETTER
from airflow_monai.errors import BrokerMisused, BrokerUnavailable
from airflow_monai.hooks.broker import KafkaHook, kafka_connection_type
from tests.broker.inbox import Inbox, event, names
from tests.gateway.conftest import wait_for
from tests.kafka_cluster import KafkaCluster, kafka_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with kafka_cluster() as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "CREATE_SECONDS", 0.2)
    monkeypatch.setattr(ours, "LOOK_SECONDS", 0.5)


@pytest.fixture
def subscribe(cluster: KafkaCluster, topic: str, inbox: Inbox) -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def subscribed(**extra: Any) -> Any:
        broker = open_broker(cluster.address(f"group-{topic}", **extra))
        opened.append(broker.subscribe([topic], inbox, inbox.states.append))
        wait_for(lambda: None in inbox.states)
        return opened[-1]

    yield subscribed
    for subscription in opened:
        subscription.close()


def publish(cluster: KafkaCluster, topic: str, count: int = 1, correlation_id: str = "c") -> None:
    with open_broker(cluster.address()).publisher() as publisher:
        for number in range(count):
            publisher.publish(message_of(topic, event(number), correlation_id=correlation_id, message_id=f"m{number}"))


def test_a_message_comes_as_it_was_published(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(cluster, topic)
    subscribe()
    message = wait_for(lambda: inbox.got)[0].message
    message.check()
    assert (message.topic, message.type, message.message_id, message.correlation_id) == (
        topic, "ExportCompleteEvent", "m0", "c",
    )  # fmt: skip
    assert message.content_type == "application/json" and abs((message.timestamp or 0) - time.time()) < 60
    assert message.body == event().body()
    assert inbox.got[0].ack()


def test_messages_of_one_correlation_keep_their_order(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(cluster, topic, 30)
    subscribe()
    wait_for(lambda: len(inbox.got) == 30)
    assert names(inbox) == [f"m{number}" for number in range(30)]


def test_what_is_done_does_not_come_again_and_what_is_not_does(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(cluster, topic, 4)
    first = subscribe()
    wait_for(lambda: len(inbox.got) == 4)
    for number in (1, 0, 3):  # out of order: 0 and 1 are done, 2 is not
        assert inbox.got[number].ack()
    first.close()
    late = inbox.got[2]
    inbox.got.clear()
    inbox.states.clear()
    assert not late.ack() and not late.reject("late")
    subscribe()
    wait_for(lambda: len(inbox.got) == 2)
    assert names(inbox) == ["m2", "m3"]


def test_prefetch_bounds_what_a_consumer_holds(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(cluster, topic, 10)
    subscribe(prefetch=3)
    wait_for(lambda: len(inbox.got) == 3)
    time.sleep(1.0)
    assert len(inbox.got) == 3
    for delivered in inbox.got[:2]:
        assert delivered.ack()
    wait_for(lambda: len(inbox.got) == 5)


def test_a_rejected_message_is_a_dead_letter_with_the_reason(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(cluster, topic)
    subscribe()
    assert wait_for(lambda: inbox.got)[0].reject("it names a workflow that is not there")
    (dead,) = cluster.records(f"{topic}{DEAD_LETTER}")
    headers = {name: value.decode() for name, value in dead.headers()}
    assert headers[REASON_HEADER] == "it names a workflow that is not there"
    assert (headers["message_id"], headers["correlation_id"], dead.value()) == ("m0", "c", event().body())


@pytest.mark.parametrize("answer", ["requeue", "reject"])
def test_a_message_that_cannot_be_written_again_is_handed_out_anew(
    cluster: KafkaCluster,
    topic: str,
    inbox: Inbox,
    subscribe: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    """Else it would be nobody's, and what is done after it would never be known."""
    publish(cluster, topic)
    subscribe()
    held = wait_for(lambda: inbox.got)[0]
    with monkeypatch.context() as away:

        def refused(*_: object) -> None:
            raise BrokerUnavailable("the leader is being elected")

        away.setattr(ours, "_written", refused)
        assert not (held.requeue() if answer == "requeue" else held.reject("the reason"))
    wait_for(lambda: len(inbox.got) == 2)
    assert names(inbox) == ["m0", "m0"] and inbox.got[1].ack()


def test_a_message_that_is_put_back_comes_after_those_that_wait(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(cluster, topic, 2)
    subscribe(delivery_limit=2)
    wait_for(lambda: len(inbox.got) == 2)
    assert inbox.got[0].requeue()
    for count in range(3, 8):
        wait_for(lambda: len(inbox.got) == count)  # noqa: B023
        assert inbox.got[-1].requeue()
    wait_for(lambda: len(inbox.got) == 8)
    assert names(inbox) == ["m0", "m1", *["m0"] * 6]


def test_a_message_that_kills_its_consumers_ends_among_the_dead_letters(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(cluster, topic, 2)
    subscription = subscribe(delivery_limit=1)
    wait_for(lambda: len(inbox.got) == 2)
    subscription.close()  # as one that dies: nothing was answered
    inbox.got.clear()
    inbox.states.clear()
    subscribe(delivery_limit=1)
    wait_for(lambda: names(inbox) == ["m1"])
    (dead,) = cluster.records(f"{topic}{DEAD_LETTER}")
    assert "1 time, to" in dict(dead.headers())[REASON_HEADER].decode()


def test_two_consumers_of_a_group_share_and_lose_nothing_when_one_goes(cluster: KafkaCluster, topic: str) -> None:
    handled: Counter[str] = Counter()

    def handle(delivered: Delivered) -> None:
        def work() -> None:
            time.sleep(0.02)
            if delivered.ack():
                handled[delivered.message.message_id] += 1

        threading.Thread(target=work, daemon=True).start()

    address = cluster.address(f"group-{topic}")
    with open_broker(address).publisher() as publisher:
        for number in range(60):
            publisher.publish(message_of(topic, event(), correlation_id=f"c{number}", message_id=f"m{number}"))
    one = open_broker(address).subscribe([topic], handle)
    other = open_broker(address).subscribe([topic], handle)
    wait_for(lambda: len(handled) > 5)
    one.close()
    wait_for(lambda: len(handled) == 60, 60)
    other.close()


def test_a_record_of_somebody_else_s_is_taken_as_a_message_that_lacks_something(
    cluster: KafkaCluster, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": f"127.0.0.1:{cluster.port}", "log_level": 0})
    producer.produce(topic, value=b"{}", headers=[("timestamp", "soon"), ("mine", b"\xff")])
    producer.flush(10)
    subscribe()
    message = wait_for(lambda: inbox.got)[0].message
    assert (message.body, message.message_id, message.timestamp) == (b"{}", "", None)


def test_no_cluster_at_all_is_told_and_waited_for(free_port: int, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(ours, "CONFIRM_SECONDS", 2.0)
    nowhere = open_broker(BrokerAddress("b", "monai_kafka", "127.0.0.1", free_port))
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        nowhere.test()
    with pytest.raises(BrokerUnavailable, match="cannot be reached"), nowhere.publisher():
        pass
    states: list[str | None] = []
    subscription = nowhere.subscribe([topic], lambda delivered: None, states.append)
    wait_for(lambda: states)
    assert "cannot be reached" in str(states[0])
    subscription.close()


def test_a_cluster_that_goes_away_is_told(topic: str, inbox: Inbox) -> None:
    with kafka_cluster() as first:
        broker = open_broker(first.address())
        assert "1 brokers" in broker.test()
        publish(first, topic)
        subscription = broker.subscribe([topic], inbox, inbox.states.append)
        wait_for(lambda: None in inbox.states)
        first.kill()
        wait_for(lambda: any(inbox.states), 60)
        subscription.close()
    assert "cannot be reached" in str(next(state for state in inbox.states if state))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"host": ""}, "it has no host"),
        ({"extra": {"prefetch": "many"}}, "prefetch = 'many' is not a whole number"),
        ({"login": "me", "extra": {"mechanism": "MD5"}}, "mechanism = 'MD5' is none of"),
    ],
)
def test_a_connection_that_cannot_be_used(changes: dict[str, Any], told: str) -> None:
    parts = {"name": "site", "kind": "monai_kafka", "host": "h", "port": None, **changes}
    with pytest.raises(BrokerMisused, match="Correct the Airflow connection") as caught:
        open_broker(BrokerAddress(**parts))
    assert told in str(caught.value)


def test_what_a_connection_says_of_servers_and_security() -> None:
    address = BrokerAddress(
        "b", "monai_kafka", "one, two:9093", login="me", password="hush", extra={"tls": True, "ca_file": "/ca.pem"}
    )
    options = ours.KafkaOptions.of(address)
    assert options.servers == "one:9092,two:9093"
    assert options.client["security.protocol"] == "SASL_SSL" and options.client["ssl.ca.location"] == "/ca.pem"
    assert "hush" not in repr(options)


def test_a_site_without_the_client_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "airflow_monai.broker.kafka")
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(BrokerMisused, match=r"airflow-monai\[kafka\]"):
        open_broker(BrokerAddress("b", "monai_kafka", "h"))


def test_a_message_that_only_notifies_is_dropped_where_no_topic_is(cluster: KafkaCluster) -> None:
    with open_broker(cluster.address()).publisher() as publisher:
        publisher.publish(Message("md.tasks.update", b"{}", needs_queue=False))


def test_a_topic_that_is_missing_is_told(cluster: KafkaCluster, topic: str) -> None:
    broker = open_broker(cluster.address(f"group-{topic}"))
    states: list[str | None] = []
    subscription = broker.subscribe([topic], lambda delivered: None, states.append)
    wait_for(lambda: states)
    subscription.close()
    assert f"there is no topic {topic!r}" in str(states[0])


def test_how_large_a_message_may_be_says_the_cluster(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_broker(cluster.address()).publisher() as publisher:
        publisher.publish(Message(topic, bytes(1_500_000)))
    monkeypatch.setattr(ours, "MOST_BYTES", 2000)  # the cluster of the tests has no limit
    with open_broker(cluster.address()).publisher() as publisher:
        with pytest.raises(BrokerMisused, match=r"too large for Kafka.*max\.message\.bytes") as caught:
            publisher.publish(Message(topic, bytes(5000)))
        publisher.publish(Message(topic, b""))
    assert "connection" not in str(caught.value)


def test_the_connection_of_airflow_is_tried_by_its_test_button(
    cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "monai_kafka", "host": "127.0.0.1", "port": cluster.port}
    monkeypatch.setenv("AIRFLOW_CONN_EVENTS", json.dumps(connection))
    good, said = KafkaHook("EVENTS").test_connection()
    assert good and "1 brokers" in said
    form = kafka_connection_type()
    assert form["hook-class-name"] == f"{KafkaHook.__module__}.{KafkaHook.__name__}"
    assert (form["connection-type"], form["hook-name"]) == (KafkaHook.conn_type, KafkaHook.hook_name)
    source = Path(ours.__file__).read_text() + Path(base.__file__).read_text()
    for name in form["conn-fields"]:
        assert f'"{name}"' in source, f"nothing reads {name}"
