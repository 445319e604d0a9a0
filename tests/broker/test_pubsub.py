"""Messages through Pub/Sub's own protocol (tests/pubsub_server.py says what it stands in for)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.broker import pubsub as ours
from airflow_monai.broker.base import REASON_HEADER, BrokerAddress, Message, message_of, open_broker
from airflow_monai.broker.pubsub import DEAD_LETTER
from airflow_monai.errors import BrokerMisused, BrokerUnavailable
from airflow_monai.hooks.broker import PubSubHook, pubsub_connection_type
from tests.broker.inbox import Inbox, event, names
from tests.gateway.conftest import wait_for
from tests.pubsub_server import PubSubServer, pubsub_server


@pytest.fixture(scope="module")
def server() -> Iterator[PubSubServer]:
    with pubsub_server() as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "LOOK_SECONDS", 0.3)


@pytest.fixture
def subscribe(server: PubSubServer, topic: str, inbox: Inbox) -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def subscribed(**extra: Any) -> Any:
        opened.append(open_broker(server.address(**extra)).subscribe([topic], inbox, inbox.states.append))
        wait_for(lambda: None in inbox.states)
        return opened[-1]

    yield subscribed
    for subscription in opened:
        subscription.close()


def publish(server: PubSubServer, topic: str, *correlations: str) -> None:
    with open_broker(server.address()).publisher() as publisher:
        for number, correlation in enumerate(correlations or ("c",)):
            publisher.publish(message_of(topic, event(number), correlation_id=correlation, message_id=f"m{number}"))


def test_a_message_comes_as_it_was_published_and_not_again(
    server: PubSubServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    first = subscribe()
    publish(server, topic)
    message = wait_for(lambda: inbox.got)[0].message
    message.check()
    assert (message.topic, message.type, message.message_id, message.correlation_id) == (
        topic, "ExportCompleteEvent", "m0", "c",
    )  # fmt: skip
    assert message.content_type == "application/json" and abs((message.timestamp or 0) - time.time()) < 60
    assert message.body == event().body()
    assert inbox.got[0].ack()
    queue = server.queues[f"projects/clinic/subscriptions/test.{topic}"]
    wait_for(lambda: not queue.given)  # the client sends acknowledgements a moment later
    first.close()
    subscribe()
    time.sleep(0.5)
    assert len(inbox.got) == 1


def test_messages_of_one_correlation_come_one_after_the_other(
    server: PubSubServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe()
    publish(server, topic, "a", "a", "b")
    wait_for(lambda: len(inbox.got) == 2)
    time.sleep(0.3)
    assert sorted(names(inbox)) == ["m0", "m2"]
    assert all(delivered.ack() for delivered in list(inbox.got))
    wait_for(lambda: len(inbox.got) == 3)
    assert names(inbox)[-1] == "m1"


def test_prefetch_bounds_what_a_subscriber_holds(
    server: PubSubServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe(prefetch=3)
    publish(server, topic, *(f"c{number}" for number in range(10)))
    wait_for(lambda: len(inbox.got) == 3)
    time.sleep(0.5)
    assert len(inbox.got) == 3
    for delivered in inbox.got[:2]:
        assert delivered.ack()
    wait_for(lambda: len(inbox.got) == 5)


def test_a_rejected_message_is_a_dead_letter_with_the_reason(
    server: PubSubServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe()
    publish(server, topic)
    assert wait_for(lambda: inbox.got)[0].reject("it names a workflow that is not there")
    (dead,) = wait_for(lambda: server.lying_in(f"test.{topic}{DEAD_LETTER}"))
    assert dead.attributes[REASON_HEADER] == "it names a workflow that is not there"
    assert (dead.attributes["message_id"], dead.data) == ("m0", event().body())
    wait_for(lambda: not server.queues[f"projects/clinic/subscriptions/test.{topic}"].given)


def test_a_message_may_be_put_back_often(
    server: PubSubServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe(delivery_limit=5)
    publish(server, topic)
    for count in range(1, 9):
        wait_for(lambda: len(inbox.got) == count)  # noqa: B023
        assert inbox.got[-1].requeue()
    wait_for(lambda: len(inbox.got) == 9)
    assert inbox.got[-1].ack()
    assert server.lying_in(f"test.{topic}{DEAD_LETTER}") == []


def test_what_was_not_answered_comes_again_and_too_often_is_a_dead_letter(
    server: PubSubServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    for count in range(1, 6):
        inbox.states.clear()
        subscription = subscribe(delivery_limit=5)
        if count == 1:
            publish(server, topic)
        wait_for(lambda: len(inbox.got) == count)  # noqa: B023
        subscription.close()
        assert not inbox.got[-1].ack()
    wait_for(lambda: server.lying_in(f"test.{topic}{DEAD_LETTER}"))


def test_nothing_is_lost_when_the_server_goes_away(topic: str, inbox: Inbox) -> None:
    with pubsub_server() as server:
        broker = open_broker(server.address())
        subscription = broker.subscribe([topic], inbox, inbox.states.append)
        wait_for(lambda: None in inbox.states)
        publish(server, topic, "a", "b")
        wait_for(lambda: len(inbox.got) == 2)
        server.stop()
        wait_for(lambda: any(inbox.states), 60)
        inbox.states.clear()
        server.start()
        wait_for(lambda: len(inbox.got) >= 4, 60)
        assert all(delivered.ack() for delivered in inbox.got[-2:])
        wait_for(lambda: None in inbox.states, 60)
        subscription.close()


def test_what_nobody_would_get_is_told_to_who_needs_it_to_be_got(server: PubSubServer, topic: str) -> None:
    with pytest.raises(BrokerMisused, match="no subscription wants"):
        publish(server, topic)
    with open_broker(server.address()).publisher() as publisher:
        publisher.publish(Message(topic, b"{}", needs_queue=False))


def test_no_server_and_no_right_are_told(server: PubSubServer, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = BrokerAddress("b", "monai_pubsub", "127.0.0.1", free_port, extra={"project": "p", "insecure": True})
    with monkeypatch.context() as soon, pytest.raises(BrokerUnavailable, match="cannot be reached"):
        soon.setattr(ours, "CONFIRM_SECONDS", 1.0)
        open_broker(nowhere).test()
    with pytest.raises(BrokerMisused, match="not authorized"):
        open_broker(server.address(project="other")).test()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"path": ""}, "it names no project"),
        ({"extra": {"delivery_limit": 1}}, "delivery_limit = '1' is not a whole number from 5 to 100"),
        ({"password": "hush"}, "its password is no key of a service account"),
    ],
)
def test_a_connection_that_cannot_be_used(changes: dict[str, Any], told: str) -> None:
    parts: dict[str, Any] = {"name": "site", "kind": "monai_pubsub", "host": "", "path": "clinic", **changes}
    with pytest.raises(BrokerMisused, match="Correct the Airflow connection") as caught:
        open_broker(BrokerAddress(**parts))
    assert told in str(caught.value) and "hush" not in str(caught.value)


def test_a_site_without_the_client_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "airflow_monai.broker.pubsub")
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    with pytest.raises(BrokerMisused, match=r"airflow-monai\[pubsub\]"):
        open_broker(BrokerAddress("b", "monai_pubsub", "", path="clinic"))


def test_the_connection_of_airflow_is_tried_by_its_test_button(
    server: PubSubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"project": "clinic", "insecure": True}
    connection = {"conn_type": "monai_pubsub", "host": "127.0.0.1", "port": server.port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_EVENTS", json.dumps(connection))
    good, said = PubSubHook("EVENTS").test_connection()
    assert good and said.startswith("Project clinic has")
    form = pubsub_connection_type()
    assert form["hook-class-name"] == f"{PubSubHook.__module__}.{PubSubHook.__name__}"
    assert (form["connection-type"], form["hook-name"]) == (PubSubHook.conn_type, PubSubHook.hook_name)
    source = Path(ours.__file__).read_text()
    for name in form["conn-fields"]:
        assert f'"{name}"' in source, f"nothing reads {name}"
