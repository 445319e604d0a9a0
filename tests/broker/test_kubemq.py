"""Messages through KubeMQ's own protocol (tests/kubemq_server.py says what it stands in for)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.broker import base, consuming
from airflow_monai.broker.base import REASON_HEADER, BrokerAddress, Message, message_of, open_broker
from airflow_monai.broker.consuming import DEAD_LETTER
from airflow_monai.broker.kubemq import access, deliveries, wire
from airflow_monai.broker.kubemq.deliveries import BEHIND
from airflow_monai.broker.kubemq.subscription import POLL_SECONDS
from airflow_monai.errors import BrokerMisused, BrokerUnavailable
from airflow_monai.hooks.broker import KubeMqHook, kubemq_connection_type
from tests.broker.inbox import Inbox, event, names
from tests.gateway.conftest import wait_for
from tests.kubemq_server import BODY_LIMIT, KubeMqServer, kubemq_server
from tests.rabbitmq import make_certificates


@pytest.fixture(scope="module")
def server() -> Iterator[KubeMqServer]:
    with kubemq_server() as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "READ_SECONDS", 0.1)


@pytest.fixture
def subscribe(server: KubeMqServer, topic: str, inbox: Inbox) -> Iterator[Callable[..., Any]]:
    opened: list[Any] = []

    def subscribed(**extra: Any) -> Any:
        inbox.states.clear()
        opened.append(open_broker(server.address(**extra)).subscribe([topic], inbox, inbox.states.append))
        wait_for(lambda: None in inbox.states)
        return opened[-1]

    yield subscribed
    for subscription in opened:
        subscription.close()


def publish(server: KubeMqServer, topic: str, count: int = 1) -> None:
    with open_broker(server.address()).publisher() as publisher:
        for number in range(count):
            publisher.publish(message_of(topic, event(number), correlation_id="c", message_id=f"m{number}"))


def test_a_message_comes_as_it_was_published_and_not_again(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(server, topic)
    first = subscribe()
    message = wait_for(lambda: inbox.got)[0].message
    message.check()
    assert (message.topic, message.type, message.message_id, message.correlation_id) == (
        topic, "ExportCompleteEvent", "m0", "c",
    )  # fmt: skip
    assert message.content_type == "application/json" and abs((message.timestamp or 0) - time.time()) < 60
    assert message.body == event().body()
    assert server.held(topic) == 1
    assert inbox.got[0].ack()
    assert (server.held(topic), server.lying_in(topic)) == (0, [])
    assert not inbox.got[0].ack()  # it is nobody's any more
    first.close()
    subscribe()
    time.sleep(0.3)
    assert names(inbox) == ["m0"]


def test_messages_of_a_queue_keep_their_order_also_when_they_come_again(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(server, topic, 20)
    first = subscribe()
    wait_for(lambda: len(inbox.got) == 20)
    assert names(inbox) == [f"m{number}" for number in range(20)]
    for number in (3, 0, 5):
        assert inbox.got[number].ack()
    late = inbox.got[1]
    first.close()
    assert not late.ack() and not late.reject("late") and not late.requeue()
    inbox.got.clear()
    subscribe()
    wait_for(lambda: len(inbox.got) == 17)
    assert names(inbox) == [f"m{number}" for number in range(20) if number not in (0, 3, 5)]
    assert server.lying_in(f"{topic}{DEAD_LETTER}") == []


def test_a_message_that_is_held_keeps_none_waiting_and_is_acknowledged_at_once(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe()
    publish(server, topic)
    wait_for(lambda: len(inbox.got) == 1)
    time.sleep(POLL_SECONDS / 10)
    publish(server, topic, 2)
    wait_for(lambda: len(inbox.got) == 3)
    began = time.monotonic()  # while the next message is waited for
    assert all(delivered.ack() for delivered in inbox.got)
    assert time.monotonic() - began < POLL_SECONDS - 0.5


def test_prefetch_bounds_what_a_gateway_holds_of_a_queue(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(server, topic, 10)
    subscribe(prefetch=3)
    wait_for(lambda: len(inbox.got) == 3)
    time.sleep(0.5)
    assert (len(inbox.got), server.held(topic)) == (3, 3)
    for delivered in inbox.got[:2]:
        assert delivered.ack()
    wait_for(lambda: len(inbox.got) == 5)


def test_a_rejected_message_is_a_dead_letter_with_the_reason(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    subscribe()
    publish(server, topic)
    assert wait_for(lambda: inbox.got)[0].reject("it names a workflow that is not there")
    (dead,) = server.lying_in(f"{topic}{DEAD_LETTER}")
    assert dead.Tags[REASON_HEADER] == "it names a workflow that is not there"
    assert (dead.Tags["message_id"], dead.MessageID, dead.Body) == ("m0", "m0", event().body())
    assert server.held(topic) == 0


def test_a_message_that_is_put_back_comes_after_those_that_wait(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(server, topic, 3)
    subscribe(prefetch=1)
    for count in range(1, 10):
        wait_for(lambda: len(inbox.got) == count)  # noqa: B023
        assert inbox.got[-1].requeue()
    wait_for(lambda: len(inbox.got) == 10)
    assert names(inbox) == ["m0", "m1", "m2"] * 3 + ["m0"]


@pytest.mark.parametrize("answer", ["requeue", "reject"])
def test_a_message_that_cannot_be_written_again_is_handed_out_anew(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any], answer: str
) -> None:
    publish(server, topic)
    subscribe()
    held = wait_for(lambda: inbox.got)[0]
    server.broken = True
    try:
        assert not (held.requeue() if answer == "requeue" else held.reject("the reason"))
        with pytest.raises(BrokerUnavailable, match="publish ack timeout"):
            publish(server, topic)
    finally:
        server.broken = False
    wait_for(lambda: len(inbox.got) == 2)
    assert names(inbox) == ["m0", "m0"] and inbox.got[1].ack()


TAKER = """
import sys, time
from airflow_monai.broker.base import BrokerAddress, open_broker
broker = open_broker(BrokerAddress("b", "monai_kubemq", "127.0.0.1", int(sys.argv[1])))
broker.subscribe([sys.argv[2]], lambda delivered: print(delivered.message.message_id, flush=True))
time.sleep(600)
"""


def test_a_message_of_a_gateway_that_is_killed_comes_again(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(server, topic)
    command = [sys.executable, "-c", TAKER, str(server.port), topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline().strip() == "m0"
        subscribe()
        time.sleep(0.3)
        assert inbox.got == []
        other.send_signal(signal.SIGKILL)
    assert wait_for(lambda: inbox.got)[0].ack() and names(inbox) == ["m0"]


def test_a_message_that_kills_its_gateways_ends_among_the_dead_letters(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    publish(server, topic, 2)
    for count in (1, 2):
        inbox.got.clear()
        subscribed = subscribe(delivery_limit=2, prefetch=1)
        wait_for(lambda: inbox.got)
        assert names(inbox) == ["m0"]
        if count == 2:
            with open_broker(server.address()).publisher() as publisher:
                publisher.publish(Message(f"{topic}{BEHIND}", b"not a note"))
        subscribed.close()  # as one that dies: nothing was answered
    inbox.got.clear()
    subscribe(delivery_limit=2, prefetch=1)
    wait_for(lambda: names(inbox) == ["m1"])
    (dead,) = server.lying_in(f"{topic}{DEAD_LETTER}")
    assert "2 times, each to a gateway that died" in dead.Tags[REASON_HEADER] and dead.MessageID == "m0"
    assert inbox.got[0].ack()
    assert len(server.lying_in(f"{topic}{BEHIND}")) == 2  # the sum, and a note of m1


@pytest.mark.parametrize("fault", ["no acknowledgement", "no confirmation"])
def test_a_note_counts_once_however_often_it_is_written_and_read(
    server: KubeMqServer,
    topic: str,
    inbox: Inbox,
    subscribe: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """Else a message would be a dead letter after the second of three gateways that may die with it."""
    publish(server, topic)
    send, lost = access.Access.send, [fault == "no confirmation"]

    def send_unheard(self: access.Access, calls: Any, channel: str, message: Message, headers: Any) -> Any:
        said = send(self, calls, channel, message, headers)
        if channel.endswith(BEHIND) and b'{"' in message.body and lost and lost.pop():
            raise BrokerUnavailable("nobody heard that it lies there")
        return said

    monkeypatch.setattr(access.Access, "send", send_unheard)
    server.loses_acknowledgements_of = f"{topic}{BEHIND}" if fault == "no acknowledgement" else None
    try:
        for _ in range(3):
            inbox.got.clear()
            subscribed = subscribe(delivery_limit=3, prefetch=1)
            wait_for(lambda: names(inbox) == ["m0"])
            subscribed.close()  # as one that dies: nothing was answered
            lost.append(fault == "no confirmation")
    finally:
        server.loses_acknowledgements_of = None
    assert server.lying_in(f"{topic}{DEAD_LETTER}") == []
    inbox.got.clear()
    subscribe(delivery_limit=3, prefetch=1)
    (dead,) = wait_for(lambda: server.lying_in(f"{topic}{DEAD_LETTER}"))
    assert "3 times, each to a gateway that died" in dead.Tags[REASON_HEADER] and inbox.got == []


def test_a_message_that_nobody_can_handle_keeps_none_behind_it_and_ends_among_the_dead_letters(
    server: KubeMqServer, topic: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "_PAUSE_SECONDS", 0.01)

    def handle(delivered: Any) -> None:
        if delivered.message.message_id == "m0":
            raise ZeroDivisionError
        inbox(delivered)

    subscribed = open_broker(server.address(delivery_limit=2)).subscribe([topic], handle, inbox.states.append)
    try:
        wait_for(lambda: None in inbox.states)
        publish(server, topic, 2)
        (dead,) = wait_for(lambda: server.lying_in(f"{topic}{DEAD_LETTER}"))
        wait_for(lambda: "m1" in names(inbox))
    finally:
        subscribed.close()
    assert dead.MessageID == "m0"


def test_a_message_that_is_too_large_is_told_with_the_limit_and_one_for_a_moment_as_that(
    server: KubeMqServer, topic: str
) -> None:
    with open_broker(server.address()).publisher() as publisher:
        with pytest.raises(BrokerMisused, match="GRPC_BODY_LIMIT") as caught:
            publisher.publish(Message(topic, bytes(BODY_LIMIT + 1), type="t"))
        said = str(caught.value)
        assert "too large" in said and f"vs. {BODY_LIMIT}" in said and "connection" not in said
        server.busy = True
        try:
            with pytest.raises(BrokerUnavailable, match=r"limit of its own.*too many requests"):
                publisher.publish(Message(topic, b"", type="t"))
        finally:
            server.busy = False
        publisher.publish(Message(topic, bytes(1024), type="t"))


def test_a_message_that_is_too_large_to_be_taken_is_told(
    server: KubeMqServer, topic: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_broker(server.address()).publisher() as publisher:
        publisher.publish(Message(topic, bytes(5000)))
    monkeypatch.setattr(access, "_CHANNEL_OPTIONS", (("grpc.max_receive_message_length", 4000),))
    subscribed = open_broker(server.address()).subscribe([topic], inbox, inbox.states.append)
    said = wait_for(lambda: next((state for state in inbox.states if state), None))
    subscribed.close()
    assert "too large to be taken" in said and "Remove it from its queue" in said and "connection" not in said


def test_nothing_is_lost_while_the_server_is_away(topic: str, inbox: Inbox) -> None:
    with kubemq_server() as server:
        broker = open_broker(server.address())
        subscribed = broker.subscribe([topic, f"{topic}.other"], inbox, inbox.states.append)
        wait_for(lambda: inbox.states == [None])
        publish(server, topic, 2)
        wait_for(lambda: len(inbox.got) == 2)
        server.stop()
        wait_for(lambda: inbox.states[-1])
        assert "cannot be reached" in str(inbox.states[-1])
        assert not inbox.got[0].ack()
        with pytest.raises(BrokerUnavailable), broker.publisher():
            pass
        server.start()
        wait_for(lambda: len(inbox.got) == 4)
        publish(server, f"{topic}.other")
        wait_for(lambda: len(inbox.got) == 5)
        assert names(inbox) == ["m0", "m1", "m0", "m1", "m0"] and inbox.states[-1] is None
        assert not inbox.got[1].reject("it came again") and server.lying_in(f"{topic}{DEAD_LETTER}") == []
        assert all(delivered.ack() for delivered in inbox.got[2:])
        assert (server.held(topic), server.lying_in(topic)) == (0, [])
        subscribed.close()


def test_what_only_tells_something_goes_to_the_events_store(server: KubeMqServer, topic: str) -> None:
    told = Message(topic, b"{}", message_id="m", type="TaskUpdate", headers={"a": 1}, needs_queue=False)
    with open_broker(server.address()).publisher() as publisher:
        publisher.publish(told)
    (kept,) = [one for one in server.events if one.Channel == topic]
    assert (kept.EventID, kept.Body, dict(kept.Tags)) == (
        "m", b"{}", {"a": "1", "message_id": "m", "type": "TaskUpdate"},
    )  # fmt: skip
    assert server.lying_in(topic) == []


def test_a_message_of_somebody_else_s_lacks_something_and_texts_may_be_anything(
    server: KubeMqServer, topic: str, inbox: Inbox, subscribe: Callable[..., Any]
) -> None:
    with open_broker(server.address()).publisher() as publisher:
        publisher.publish(Message(topic, b"", headers={"mine": "a\ud800b", "timestamp": "soon"}))
    subscribe()
    message = wait_for(lambda: inbox.got)[0].message
    assert (message.body, message.message_id, message.timestamp) == (b"", "", None)
    assert message.headers["mine"] == "a?b"


def test_no_server_no_login_and_no_right_are_told(free_port: int, topic: str, inbox: Inbox) -> None:
    nowhere = BrokerAddress("b", "monai_kubemq", "127.0.0.1", free_port)
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        open_broker(nowhere).test()
    with kubemq_server(token="hush", denied="md.secret") as server:
        assert open_broker(server.address()).test() == f"Logged in at 127.0.0.1:{server.port}: KubeMQ v2.0.0."
        wrong = BrokerAddress("b", "monai_kubemq", "127.0.0.1", server.port, password="wrong")
        with pytest.raises(BrokerMisused, match="authentication verification failed"):
            open_broker(wrong).test()
        with pytest.raises(BrokerMisused, match="access denied to resource"):
            publish(server, "md.secret.topic")
        with pytest.raises(BrokerMisused, match="invalid queue name"):
            publish(server, "md.*")
        subscribed = open_broker(server.address()).subscribe(["md.secret", topic], inbox, inbox.states.append)
        wait_for(lambda: any(inbox.states))
        assert "access denied to resource" in str(next(state for state in inbox.states if state))
        subscribed.close()


def test_tls_with_the_authority_of_the_connection(tmp_path: Path) -> None:
    with kubemq_server(tls=make_certificates(tmp_path / "tls")) as server:
        good = {"tls": True, "ca_file": str(tmp_path / "tls/ca.pem")}
        assert "Logged in" in open_broker(server.address(**good)).test()
        for extra in ({"tls": True}, {}):
            with pytest.raises(BrokerUnavailable, match="cannot be reached"):
                open_broker(server.address(**extra)).test()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"host": ""}, "it has no host"),
        ({"extra": {"delivery_limit": "often"}}, "delivery_limit = 'often' is not a whole number"),
        ({"extra": {"prefetch": 0}}, "prefetch = '0' is not a whole number from 1 to 200"),
        ({"extra": {"tls": True, "ca_file": "/nowhere"}}, "its certificates cannot be used"),
        ({"extra": {"tls": True, "key_file": "/key.pem"}}, "key_file is set without cert_file"),
        ({"extra": {"tls": True, "cert_file": __file__}}, "its certificates cannot be used"),
    ],
)
def test_a_connection_that_cannot_be_used(changes: dict[str, Any], told: str) -> None:
    parts: dict[str, Any] = {"name": "site", "kind": "monai_kubemq", "host": "h", "port": None, **changes}
    with pytest.raises(BrokerMisused, match="Correct the Airflow connection") as caught:
        open_broker(BrokerAddress(**parts))
    assert told in str(caught.value)


def test_a_site_without_the_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("airflow_monai.broker.kubemq")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(BrokerMisused, match=r"airflow-monai\[kubemq\]"):
        open_broker(BrokerAddress("b", "monai_kubemq", "h"))


def test_messages_are_written_by_the_numbers_of_the_published_protocol() -> None:
    """By hand: (number << 3 | kind), length, content. The stand-in would not see a wrong one."""
    message = wire.QueueMessage(
        MessageID="m", ClientID="c", Channel="q", Metadata="d", Body=b"b", Tags={"k": "v"},
        Attributes={"Timestamp": 4, "Sequence": 5},
    )  # fmt: skip
    assert message.SerializeToString() == (
        b"\x0a\x01m\x12\x01c\x1a\x01q\x22\x01d\x2a\x01b\x32\x06\x0a\x01k\x12\x01v\x3a\x04\x08\x04\x10\x05"
    )
    request = wire.QueuesDownstreamRequest(
        RequestID="r", ClientID="c", RequestTypeData=wire.ACK_RANGE, Channel="q", MaxItems=1, WaitTimeout=2,
        SequenceRange=[5], RefTransactionId="t",
    )  # fmt: skip
    assert request.SerializeToString() == (b"\x0a\x01r\x12\x01c\x18\x03\x22\x01q\x28\x01\x30\x02\x4a\x01\x05\x52\x01t")
    answer = wire.QueuesDownstreamResponse.FromString(
        b"\x0a\x01t\x12\x01r\x18\x01\x22\x03\x0a\x01m\x2a\x01\x05\x30\x01\x3a\x01e\x40\x01"
    )
    assert (answer.TransactionId, answer.RefRequestId, answer.Messages[0].MessageID) == ("t", "r", "m")
    assert (answer.IsError, answer.Error) == (True, "e"), "what we do not read is passed over"
    sent = wire.SendQueueMessageResult.FromString(b"\x0a\x01m\x10\x07\x28\x01\x32\x01e")
    assert (sent.SentAt, sent.IsError, sent.Error) == (7, True, "e")
    told = wire.Event(EventID="e", ClientID="c", Channel="q", Metadata="d", Body=b"b", Store=True, Tags={"k": "v"})
    assert told.SerializeToString() == (
        b"\x0a\x01e\x12\x01c\x1a\x01q\x22\x01d\x2a\x01b\x30\x01\x3a\x06\x0a\x01k\x12\x01v"
    )
    result = wire.Result.FromString(b"\x0a\x01e\x10\x01\x1a\x01x")
    assert (result.Sent, result.Error) == (True, "x")
    assert wire.PingResult.FromString(b"\x0a\x01h\x12\x01v").Version == "v"


def test_the_connection_of_airflow_is_tried_by_its_test_button(
    server: KubeMqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "monai_kubemq", "host": "127.0.0.1", "port": server.port}
    monkeypatch.setenv("AIRFLOW_CONN_EVENTS", json.dumps(connection))
    good, said = KubeMqHook("EVENTS").test_connection()
    assert good and said.endswith("KubeMQ v2.0.0.")
    form = kubemq_connection_type()
    assert form["hook-class-name"] == f"{KubeMqHook.__module__}.{KubeMqHook.__name__}"
    assert (form["connection-type"], form["hook-name"]) == (KubeMqHook.conn_type, KubeMqHook.hook_name)
    source = Path(access.__file__).read_text() + Path(base.__file__).read_text()
    for name in form["conn-fields"]:
        assert f'"{name}"' in source, f"nothing reads {name}"
