"""What gateways tell of 100 jobs while everything is killed: gateways, broker and handler are real, Airflow stands in
(:mod:`tests.lifecycle.living`)."""

from __future__ import annotations

import json
import signal
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_monai.broker.events import TaskUpdateEvent, read_event
from airflow_monai.broker.events.topics import DRAFT
from airflow_monai.hooks.fernet import AirflowFernet
from airflow_monai.lifecycle.happening import What
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.notifications.handlers import Handler, Handlers
from airflow_monai.notifications.signing import new_secret
from airflow_monai.store.payloads import instance_id_of, run_id_of
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.lifecycle.living import LivingAirflow
from tests.notifications.receiver import Receiver
from tests.rabbitmq import RabbitNode

JOBS = 100
SHIPPED = {"md.tasks.update"}
PUBLISHED = {**DRAFT, "md.tasks.update": TaskUpdateEvent}
SEED = {"workflow.started", "task.started", "task.completed", "workflow.completed"}


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> Iterator[LivingAirflow]:
    airflow = LivingAirflow()
    yield airflow
    airflow.stop()


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from airflow.sdk import crypto

    made = Fernet.generate_key().decode()
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", made)
    crypto.get_fernet.cache_clear()
    yield made
    crypto.get_fernet.cache_clear()


@pytest.fixture
def telling(tmp_path: Path, living: LivingAirflow, key: str) -> Iterator[Site]:
    site = Site(tmp_path, living, more={"AIRFLOW__MONAI__NOTIFICATION_HOSTS": "127.0.0.1"})
    write_workflow(site.workflows)
    yield site
    site.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def registered(site: Site, receiver: Receiver, *events: What) -> Handler:
    """A handler, as the API registers it."""
    receiver.secret = new_secret()
    handler = Handler(
        id=str(uuid.uuid4()),
        url=receiver.url,
        events=events or tuple(What),
        dag_ids=(),
        jobs=(),
        secret=AirflowFernet().encrypt(receiver.secret),
        owner="anna",
        registered=datetime.now(timezone.utc).isoformat(),
        start=Journal(site.store).end() + 1,
    )
    Handlers(site.store).add(handler)
    return handler


class Listener:
    """A queue of its own that gets every message of the exchange, whatever its topic."""

    def __init__(self, node: RabbitNode, exchange: str):
        self.node = node
        self.queue = f"{exchange}-all"
        connection = node.connect()
        channel = connection.channel()
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(self.queue, exchange, "#")
        connection.close()
        self.got: list[tuple[str, str, dict[str, Any]]] = []  # topic, message id, body

    def read(self) -> list[tuple[str, str, dict[str, Any]]]:
        """All that came so far; of one id only the first, as a receiver does with what is told twice."""
        connection = self.node.connect()
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(self.queue, auto_ack=True)
            if method is None:
                break
            self.got.append((method.routing_key, properties.message_id, json.loads(body)))
        connection.close()
        return list({message_id: (topic, message_id, body) for topic, message_id, body in reversed(self.got)}.values())[
            ::-1
        ]


def run_ids(count: int = JOBS) -> list[str]:
    return [run_id_of(f"0b8ee4f2-0000-4000-8000-{number:012d}") for number in range(count)]


def broker_environment(node: RabbitNode, exchange: str, dialect: str = "seed") -> dict[str, str]:
    return {
        "AIRFLOW__MONAI__BROKER_CONN_ID": "tell_broker",
        "AIRFLOW__MONAI__BROKER_DIALECT": dialect,
        "AIRFLOW_CONN_TELL_BROKER": node.airflow_connection(exchange),
    }


def in_order(events: list[tuple[str, str]]) -> None:
    """(instance, kind) as they came: each instance's begin with its start and end with its end."""
    of_instance: dict[str, list[str]] = defaultdict(list)
    for instance, kind in events:
        of_instance[instance].append(kind)
    for kinds in of_instance.values():
        assert kinds[0] == "workflow.started" and kinds[-1] == "workflow.completed"
        assert kinds.count("task.started") == kinds.count("task.completed") == 3
        assert len(kinds) == 8


def unique(receiver: Receiver) -> list[dict[str, Any]]:
    """What a receiver makes of it that passes over a key which it knows."""
    found: dict[str, dict[str, Any]] = {}
    for event in list(receiver.got):
        found.setdefault(event["id"], event)
    return list(found.values())


def test_of_a_hundred_jobs_everything_arrives_in_order_whatever_is_killed(
    telling: Site, living: LivingAirflow, receiver: Receiver, rabbit: RabbitNode, exchange: str
):
    """Two gateways, one of them killed; handler and broker away in the middle; one handler unregistered."""
    listener = Listener(rabbit, exchange)
    gone = Receiver()
    handler, leaves = registered(telling, receiver), registered(telling, gone, What.WORKFLOW_COMPLETED)
    environment = broker_environment(rabbit, exchange)
    gateways = [telling.process(0, **environment) for _ in range(2)]
    names = run_ids()
    for name in names[:30]:
        living.go_through(name)
    wait_for(lambda: len(unique(receiver)) >= 8 * 10, 90)

    receiver.stop()
    gone.status = 503
    rabbit.kill()
    runner = threading.Thread(target=lambda: [(living.go_through(name), time.sleep(0.03)) for name in names[30:]])
    runner.start()
    time.sleep(1)
    # the one that has the turn: it has told the handler
    for gateway in gateways[:1]:
        gateway.send_signal(signal.SIGKILL)
        gateway.wait()
    runner.join()
    wait_for(lambda: len(_journal(telling)) >= 8 * JOBS, 120)
    Handlers(telling.store).remove(leaves.id)
    # what was on its way to it then may still come
    wait_for(lambda: not list(telling.store.list(f"lifecycle/channels/{leaves.channel}")), 90)
    gone.status, before = 204, len(gone.got)
    gateways[0] = telling.process(0, **environment)
    rabbit.start()
    receiver.start()

    wait_for(lambda: len(unique(receiver)) >= 8 * JOBS, 120)
    wait_for(lambda: len(listener.read()) >= 8 * JOBS, 120)
    events = unique(receiver)
    in_order([(event["workflow_instance_id"], event["event"]) for event in events])
    assert {event["workflow_instance_id"] for event in events} == {instance_id_of("ct-lung", name) for name in names}
    assert set(receiver.ids) == {event.id for event in _journal(telling)}
    messages = [item for item in listener.read() if item[0] in SEED]
    in_order([(body["transaction_id"], topic) for topic, _, body in messages])
    assert {message_id for _, message_id, _ in messages} == set(receiver.ids)
    assert not receiver.bad and not gone.bad
    assert len(gone.got) == before, "told after it was unregistered"
    assert handler.id in Handlers(telling.store).ids()
    assert not list(telling.store.list(f"lifecycle/channels/{leaves.channel}"))
    again = Counter(receiver.ids)
    print(f"{len(receiver.ids)} notifications of {len(again)} events, {len(listener.got)} messages")


def _journal(site: Site) -> list[Any]:
    journal = Journal(site.store)
    return [event for number in range(1, journal.end() + 1) for event in journal.read(number) or ()]


def test_a_slow_handler_and_one_that_refuses_keep_nobody_waiting(
    telling: Site, living: LivingAirflow, receiver: Receiver
):
    slow = Receiver()
    slow.delay.clear()
    names = run_ids(6)
    receiver.refuse = {instance_id_of("ct-lung", names[2])}
    registered(telling, slow)
    registered(telling, receiver, What.WORKFLOW_COMPLETED)
    telling.process(0)
    for name in names:
        living.go_through(name)
    wait_for(lambda: len(receiver.got) == 5)
    receiver.refuse = set()
    wait_for(lambda: len(receiver.got) == 6)
    slow.delay.set()
    slow.stop()


@pytest.mark.parametrize(("dialect", "topics"), [("shipped", SHIPPED), ("seed", SEED)])
def test_whoever_listens_to_everything_has_nothing_to_do(
    telling: Site, living: LivingAirflow, rabbit: RabbitNode, exchange: str, dialect: str, topics: set[str]
):
    """A gateway of others that is bound to every topic exports what it is asked to: here each instance is delivered by
    our own sink, and so once."""
    listener = Listener(rabbit, exchange)
    gateway = telling.process(0, **broker_environment(rabbit, exchange, dialect))
    wait_for(lambda: telling.store.exists("lifecycle/broker.json"))
    names = run_ids(3)
    delivered = Counter(names)  # by our own sinks
    for name in names:
        living.go_through(name)
    expected = 3 * (8 if dialect == "seed" else 6)
    wait_for(lambda: len(listener.read()) >= expected, 60)
    gateway.send_signal(signal.SIGTERM)
    gateway.wait(90)
    for topic, _, body in listener.read():
        if topic.startswith(("md.export.request", "export.request")):
            delivered.update(str(file) for file in body["files"])
        assert topic in topics
        read_event(PUBLISHED[topic], json.dumps(body).encode())  # published receivers can read it
    assert len(listener.read()) == expected
    assert set(delivered.values()) == {1}
