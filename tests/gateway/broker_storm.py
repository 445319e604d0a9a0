"""A storm of requests by a broker, while gateways and broker are killed: what must come out of it is counted."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_monai.broker.base import REASON_HEADER, Message, open_broker
from airflow_monai.errors import BrokerUnavailable
from airflow_monai.store.payloads import run_id_of
from tests.gateway.conftest import Site, wait_for, write_workflow
from tests.pacs import make_images
from tests.rabbitmq import DEAD, RabbitNode

TOPIC = "md.workflow.request"
DAGS = ("ct-lung", "ct-heart")


@dataclass
class Storm:
    """What was sent, and what came of it.

    :param kills: what was killed, how often.
    :param seconds: from the first message to the last run.
    """

    messages: int
    valid: set[str] = field(default_factory=set)
    duplicates: int = 0
    invalid: dict[str, str] = field(default_factory=dict)  # message id -> part of the reason
    kills: Counter[str] = field(default_factory=Counter)
    dead: list[tuple[str, str]] = field(default_factory=list)  # message id, reason
    seconds: float = 0.0
    published_again: int = 0

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        parts = f"{len(self.valid)} requests, {self.duplicates} duplicates, {len(self.invalid)} invalid"
        return (
            f"{self.messages} messages ({parts}) in {self.seconds:.0f} s; killed: {kills}; published again: "
            f"{self.published_again}; dead letters: {len(self.dead)}"
        )


def storm(site: Site, node: RabbitNode, folder: Path, *, messages: int, kills: int, seed: int = 1) -> Storm:
    """Publish, kill, and wait for the end."""
    order = random.Random(seed)
    write_workflow(site.workflows, "ct-heart")
    bucket = folder / "bucket"
    told = Storm(messages)
    plan = list(_plan(told, bucket, messages, order))
    environment = {
        "AIRFLOW__MONAI__BROKER_CONN_ID": "storm_broker",
        "AIRFLOW__MONAI__BROKER_BUCKETS": json.dumps({"monaideploy": str(bucket)}),
        "AIRFLOW_CONN_STORM_BROKER": node.airflow_connection("storm", prefetch=10),
    }
    gateways = [site.process(0, **environment) for _ in range(2)]
    wait_for(lambda: len(site.events("broker-connected")) >= 2, 60)
    began = time.monotonic()
    publisher = threading.Thread(target=_publish, args=(site, node, plan, told), daemon=True)
    publisher.start()
    expected = len(told.valid) * len(DAGS)
    for number in range(kills):
        target = expected * (number + 1) // (kills + 2)
        wait_for(lambda: len(site.airflow.runs) >= target, 600)  # noqa: B023
        if number % 3 == 2:
            told.kills["broker"] += 1
            node.kill()
            node.start()
        else:
            told.kills["gateway"] += 1
            one = number % 2
            gateways[one].send_signal(signal.SIGKILL)
            gateways[one].wait()
            gateways[one] = site.process(0, **environment)
    publisher.join(600)
    assert not publisher.is_alive(), "not everything could be published"
    wait_for(lambda: len(site.airflow.runs) >= expected, 600)
    told.seconds = time.monotonic() - began
    wait_for(lambda: not list(site.store.children("pending")) and node.depth(TOPIC) == 0, 120)
    time.sleep(4.0)  # what is held is looked at every two seconds
    for gateway in gateways:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(60)
    for properties, _ in node.drain(f"{TOPIC}{DEAD}"):
        told.dead.append((properties.message_id, (properties.headers or {}).get(REASON_HEADER, "")))
    return told


def check(told: Storm, site: Site, node: RabbitNode) -> None:
    """Each valid request has its runs and no others, each invalid one its dead letter, and nothing is left."""
    assert set(site.airflow.runs) == {(dag, run_id_of(payload_id)) for payload_id in told.valid for dag in DAGS}
    assert {name for name, _ in told.dead} == set(told.invalid)
    assert all(told.invalid[name] in reason for name, reason in told.dead)
    assert node.depth(TOPIC) == 0  # nobody holds any any more
    assert not list(site.store.children("pending"))
    images = [key for key in site.store.list("payloads") if key.endswith(".dcm")]
    assert len(images) == len(told.valid)
    assert not site.unfinished()


def _plan(told: Storm, bucket: Path, messages: int, order: random.Random) -> list[Message]:
    """The messages, in a random order but for duplicates, which come after what they double."""
    duplicates, invalid = messages // 10, messages // 20
    planned = [_request(told, bucket) for _ in range(messages - duplicates - invalid)]
    planned += [_wrong(told, number) for number in range(invalid)]
    order.shuffle(planned)
    valid = [message for message in planned if message.message_id not in told.invalid]
    for message in order.sample(valid, duplicates):
        planned.insert(order.randint(planned.index(message) + 1, len(planned)), message)
    told.duplicates = duplicates
    return planned


def _request(told: Storm, bucket: Path) -> Message:
    payload_id = str(uuid.uuid4())
    make_images(bucket / payload_id / "dcm" / "1.2" / "1.2.3", 1, rows=8)
    told.valid.add(payload_id)
    return _message(_event(payload_id))


def _event(payload_id: str) -> dict[str, Any]:
    return {
        "payload_id": payload_id,
        "workflows": [],
        "file_count": 1,
        "correlation_id": str(uuid.uuid4()),
        "bucket": "monaideploy",
        "timestamp": "2026-03-01T10:00:00Z",
        "trigger": {"dataService": 1, "source": "CT01", "destination": "CTLUNG"},
    }


def _wrong(told: Storm, number: int) -> Message:
    event = _event(str(uuid.uuid4()))
    ways: list[tuple[Any, str]] = [
        ({**event, "payload_id": "17"}, "payload_id is not a GUID"),
        ({**event, "workflows": ["nowhere"]}, "There is no workflow"),
        ({**event, "bucket": "elsewhere"}, "This site has no bucket"),
        ("nonsense", "not a JSON object"),
        ({name: value for name, value in event.items() if name != "trigger"}, "trigger is missing"),
    ]
    body, reason = ways[number % len(ways)]
    message = _message(body)
    told.invalid[message.message_id] = reason
    return message


def _message(event: Any) -> Message:
    return Message(
        topic=TOPIC,
        body=json.dumps(event).encode(),
        message_id=str(uuid.uuid4()),
        correlation_id=str(uuid.uuid4()),
        app_id="storm",
        content_type="application/json",
        type="WorkflowRequestEvent",
        timestamp=int(time.time()),
    )


def _publish(site: Site, node: RabbitNode, plan: list[Message], told: Storm) -> None:
    """Publish in order, not far ahead of what is done; again what was not confirmed."""
    rest, extra = list(reversed(plan)), told.duplicates + len(told.invalid)
    ahead = min(60, max(15, told.messages // 6))
    while rest:
        try:
            with open_broker(node.address("storm")).publisher() as publisher:
                while rest:
                    publisher.publish(rest[-1])
                    rest.pop()
                    while len(plan) - len(rest) > len(site.airflow.runs) // len(DAGS) + ahead + extra:
                        time.sleep(0.02)
        except BrokerUnavailable:
            told.published_again += 1
            time.sleep(0.2)
