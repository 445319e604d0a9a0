"""Messages through a real RabbitMQ."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_monai.broker import rabbitmq as ours
from airflow_monai.broker.base import REASON_HEADER, BrokerAddress, Delivered, Message, message_of, open_broker
from airflow_monai.errors import BrokerMisused, BrokerUnavailable, InvalidEvent
from tests.broker.inbox import Inbox, event
from tests.gateway.conftest import wait_for
from tests.rabbitmq import DEAD, RabbitNode


def publish(node: RabbitNode, exchange: str, topic: str, count: int = 1) -> None:
    with open_broker(node.address(exchange)).publisher() as publisher:
        for number in range(count):
            publisher.publish(message_of(topic, event(number), correlation_id="c", message_id=f"m{number}"))


@pytest.fixture
def subscribe(rabbit: RabbitNode, exchange: str, inbox: Inbox) -> Iterator[Callable[..., Any]]:
    """Subscribes to a topic of the test's own, and ends that with the test."""
    opened: list[Any] = []

    def subscribed(topic: str = exchange, node: RabbitNode = rabbit, **extra: Any) -> Any:
        broker = open_broker(node.address(exchange, **extra))
        subscription = broker.subscribe([topic], inbox, inbox.states.append)
        opened.append(subscription)
        wait_for(lambda: None in inbox.states)
        return subscription

    yield subscribed
    for subscription in opened:
        subscription.close()


def test_a_message_comes_as_it_was_published(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe()
    publish(rabbit, exchange, exchange)
    message = wait_for(lambda: inbox.got)[0].message
    message.check()
    assert (message.topic, message.type, message.message_id, message.correlation_id) == (
        exchange, "ExportCompleteEvent", "m0", "c",
    )  # fmt: skip
    assert message.content_type == "application/json" and abs(message.timestamp - time.time()) < 60
    assert message.body == event().body()


def test_queues_are_durable_quorum_queues_with_a_delivery_limit_and_dead_letters(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe(delivery_limit=2)
    channel = rabbit.connect().channel()
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": f"{exchange}{DEAD}"}
    channel.queue_declare(exchange, durable=True, arguments=arguments)  # refused if it were any different
    channel.queue_declare(f"{exchange}{DEAD}", durable=True, arguments={"x-queue-type": "quorum"})


def test_prefetch_bounds_what_a_consumer_holds(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe(prefetch=3)
    publish(rabbit, exchange, exchange, 10)
    wait_for(lambda: len(inbox.got) == 3)
    time.sleep(0.5)
    assert len(inbox.got) == 3
    for delivered in inbox.got[:2]:
        assert delivered.ack()
    wait_for(lambda: len(inbox.got) == 5)


def test_a_rejected_message_is_a_dead_letter_with_the_reason(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe()
    publish(rabbit, exchange, exchange)
    assert wait_for(lambda: inbox.got)[0].reject("it names a workflow that is not there")
    ((properties, body),) = wait_for(lambda: rabbit.drain(f"{exchange}{DEAD}"))
    assert properties.headers[REASON_HEADER] == "it names a workflow that is not there"
    assert (properties.message_id, properties.correlation_id, body) == ("m0", "c", event().body())
    assert rabbit.depth(exchange) == 0


def test_a_message_may_be_put_back_more_often_than_the_delivery_limit(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe(delivery_limit=2)
    publish(rabbit, exchange, exchange)
    for count in range(1, 12):
        wait_for(lambda: len(inbox.got) == count)  # noqa: B023
        assert inbox.got[-1].requeue()
    wait_for(lambda: len(inbox.got) == 12)
    assert inbox.got[-1].ack()
    assert {delivered.message.message_id for delivered in inbox.got} == {"m0"}
    assert rabbit.depth(exchange) == 0 and rabbit.depth(f"{exchange}{DEAD}") == 0


def test_a_message_that_kills_its_consumers_ends_among_the_dead_letters(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    for count in range(1, 4):
        inbox.states.clear()
        subscription = subscribe(delivery_limit=2)
        if count == 1:
            publish(rabbit, exchange, exchange)
        wait_for(lambda: len(inbox.got) == count)  # noqa: B023
        subscription.close()
    (dead,) = wait_for(lambda: rabbit.drain(f"{exchange}{DEAD}"))
    assert dead[0].headers["x-first-death-reason"] == "delivery_limit"


def test_an_answer_on_a_lost_connection_has_no_effect_and_the_message_comes_again(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscription = subscribe()
    publish(rabbit, exchange, exchange)
    first = wait_for(lambda: inbox.got)[0]
    link = subscription.link
    link.call(first._channel, lambda: first._channel.connection.close())  # type: ignore[attr-defined]
    wait_for(lambda: len(inbox.got) == 2)
    assert not first.ack() and not first.reject("late") and not first.requeue()
    assert inbox.got[1].ack()
    wait_for(lambda: inbox.states.count(None) == 2)


def test_a_topic_that_no_queue_wants_is_told(rabbit: RabbitNode, exchange: str) -> None:
    with pytest.raises(BrokerMisused, match=r"no queue wants messages of topic 'md.export.request.nobody'"):
        publish(rabbit, exchange, "md.export.request.nobody")


def test_a_queue_that_is_there_with_other_arguments_is_used_as_it_is(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    channel = rabbit.connect().channel()
    channel.queue_declare(exchange, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
    subscribe()
    publish(rabbit, exchange, exchange)
    assert wait_for(lambda: inbox.got)[0].ack()


def test_a_queue_that_somebody_deletes_is_made_again(
    rabbit: RabbitNode, exchange: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe()
    rabbit.connect().channel().queue_delete(exchange)
    wait_for(lambda: inbox.states.count(None) == 2)
    publish(rabbit, exchange, exchange)
    assert wait_for(lambda: inbox.got)[0].ack()


def test_a_wrong_login_is_told_and_no_broker_at_all_too(rabbit: RabbitNode, free_port: int) -> None:
    wrong = BrokerAddress("b", "amqp", "127.0.0.1", rabbit.port, "guest", "wrong", "/")
    with pytest.raises(BrokerMisused, match="refuses the login"):
        open_broker(wrong).test()
    with pytest.raises(BrokerMisused, match="refuses the login"), open_broker(wrong).publisher():
        pass
    nowhere = BrokerAddress("b", "amqp", "127.0.0.1", free_port)
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        open_broker(nowhere).test()
    with pytest.raises(BrokerUnavailable, match="cannot be reached"), open_broker(nowhere).publisher():
        pass
    assert "Logged in at 127.0.0.1" in open_broker(rabbit.address("nothing")).test()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "kafka"}, "has the type 'kafka'"),
        ({"host": ""}, "it has no host"),
        ({"extra": {"prefetch": "many"}}, "prefetch = 'many' is not a whole number from 1 to 2000"),
        ({"extra": {"tls": "true", "ca_file": "/nowhere"}}, "its certificates cannot be used"),
    ],
)
def test_a_connection_that_cannot_be_used(changes: dict[str, Any], told: str) -> None:
    parts = {"name": "site", "kind": "amqp", "host": "h", "port": None, **changes}
    with pytest.raises(BrokerMisused, match=r"Correct the Airflow connection|Change the connection") as caught:
        open_broker(BrokerAddress(**parts))
    assert told in str(caught.value)


def test_a_site_without_the_client_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pika", "airflow_monai.broker.rabbitmq", "airflow_monai.broker.link"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pika", None)
    with pytest.raises(BrokerMisused, match=r"the library pika is not installed here: pip install"):
        open_broker(BrokerAddress("b", "amqp", "h"))


def test_messages_lack_what_receivers_want() -> None:
    with pytest.raises(InvalidEvent, match=r"no message_id, no correlation_id, no app_id, no content_type, no timest"):
        Message("t", b"{}").check()
    with pytest.raises(InvalidEvent, match="content_type is not application/json"):
        Message("t", b"{}", "m", "c", "a", "text/xml", timestamp=1).check()


def test_nothing_is_lost_when_the_broker_is_killed(rabbit: RabbitNode, exchange: str) -> None:
    count = 60
    handled: Counter[str] = Counter()

    def handle(delivered: Delivered) -> None:
        def work() -> None:
            time.sleep(0.05)  # outside of the thread that keeps the connection
            if delivered.ack():
                handled[delivered.message.message_id] += 1

        threading.Thread(target=work, daemon=True).start()

    states: list[str | None] = []
    subscription = open_broker(rabbit.address(exchange)).subscribe([exchange], handle, states.append)
    wait_for(lambda: states[-1:] == [None])
    published = 0
    while published < count:
        try:
            with open_broker(rabbit.address(exchange)).publisher() as publisher:
                while published < count:
                    message = message_of(exchange, event(), correlation_id="c", message_id=f"m{published}")
                    publisher.publish(message)
                    published += 1
                    if published == 30:
                        rabbit.kill()
        except BrokerUnavailable:
            if rabbit.process is not None and rabbit.process.poll() is not None:
                rabbit.start()
    wait_for(lambda: len(handled) == count, 120)
    subscription.close()


def test_a_broker_that_does_not_confirm_is_not_waited_for_for_ever(
    rabbit: RabbitNode, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = open_broker(rabbit.address(exchange))
    broker.declare([exchange])  # type: ignore[attr-defined]
    told = pytest.raises(BrokerUnavailable, match=r"not confirmed a message within 1 s")
    with broker.publisher() as publisher, monkeypatch.context() as soon, rabbit.frozen(), told:
        soon.setattr(ours, "CONFIRM_SECONDS", 1.0)
        publisher.publish(message_of(exchange, event(), correlation_id="c"))


def test_a_sender_cannot_have_what_is_put_back_copied_to_other_queues() -> None:
    address = BrokerAddress("b", "amqp", "localhost")
    message = Message("t", b"{}", headers={"CC": ["md.workflow.request"], "BCC": ["x"], "mine": 1, "x-monai-token": 3})
    assert ours.RabbitMq(address).properties(message).headers == {"mine": 1}


@pytest.mark.parametrize("answer", ["requeue", "reject"])
def test_a_message_whose_answer_a_slow_broker_does_not_confirm_comes_again(
    subscribe: Callable[..., Any],
    rabbit: RabbitNode,
    exchange: str,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    """Else it would be nobody's, and keep its place among those that are held, as long as the connection lasts."""
    subscription = subscribe()
    publish(rabbit, exchange, exchange)
    (held,) = wait_for(lambda: inbox.got)
    with monkeypatch.context() as soon, rabbit.frozen():
        soon.setattr(ours, "CONFIRM_SECONDS", 1.0)
        done = held.requeue() if answer == "requeue" else held.reject("the reason")
    assert not done
    wait_for(lambda: len(inbox.got) > 1)
    answered, still = 1, time.monotonic() + 2.5
    while time.monotonic() < still:  # a copy that was written after all comes too
        if answered < len(inbox.got):
            inbox.got[answered].ack()
            answered, still = answered + 1, time.monotonic() + 2.5
        time.sleep(0.1)
    subscription.close()
    time.sleep(0.5)  # what was not answered would be back in the queue
    assert rabbit.depth(exchange) == 0


def test_tls_with_the_certificates_of_the_connection(rabbit: RabbitNode, exchange: str) -> None:
    extra = {"exchange": exchange, "tls": True}
    good = {**extra, "ca_file": f"{rabbit.tls}/ca.pem"}
    assert "by TLS" in open_broker(BrokerAddress("b", "amqp", "localhost", rabbit.tls_port, extra=good)).test()
    unchecked = BrokerAddress("b", "amqps", "localhost", rabbit.tls_port, extra={"check_certificate": False})
    assert "by TLS" in open_broker(unchecked).test()
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        open_broker(BrokerAddress("b", "amqp", "localhost", rabbit.tls_port, extra=extra)).test()
