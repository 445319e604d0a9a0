"""What a broker hears of a study: a real Airflow and a real RabbitMQ; the herald between them runs in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from airflow_monai.broker.base import open_broker
from airflow_monai.broker.dialects import Dialect
from airflow_monai.broker.telling import BrokerTeller
from airflow_monai.gateway.herald import Herald
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_changes import AirflowChanges
from airflow_monai.intake.events import EventLog
from airflow_monai.lifecycle.receiver import Receiver
from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import instance_id_of
from tests.e2e.helpers import add_workflows, make_study, send, wait_for_runs, workflow
from tests.rabbitmq import RabbitNode

NAME = "e2e-broker-events"


@pytest.fixture
def queue(
    stack: LocalStack, rabbit: RabbitNode, exchange: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A queue of all that is published in the words of the first draft, while a herald watches the stack's Airflow."""
    connection = {
        "conn_type": "http", "host": "127.0.0.1", "port": stack.ports.ui, "login": USER,
        "password": stack.secrets.password,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", json.dumps(connection))
    asked = rabbit.connect()
    channel = asked.channel()
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_declare(f"{exchange}-all", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(f"{exchange}-all", exchange, "#")
    asked.close()
    broker = Receiver(
        lambda: BrokerTeller(lambda: open_broker(rabbit.address(exchange)), Dialect.SEED), 1, datetime.now(timezone.utc)
    )
    changes = AirflowChanges(AirflowApi("monai_airflow"))
    herald = Herald(LocalStore(tmp_path / "journal"), changes, lambda: {"broker": broker}, EventLog())
    herald.start()
    yield f"{exchange}-all"
    herald.stop(60)


def test_the_broker_hears_of_a_study(stack: LocalStack, rabbit: RabbitNode, queue: str, tmp_path: Path) -> None:
    add_workflows(stack, workflow(NAME, "E2EBROKER", {"id": "route", "type": "router"}))
    study = make_study(tmp_path, "E2EBROKER")
    send(stack, study)
    assert wait_for_runs(stack, NAME, 1)[study.run_id]["state"] == "success"
    instance = instance_id_of(NAME, study.run_id)
    heard: list[tuple[str, dict]] = []

    def all_came() -> list[tuple[str, dict]]:
        bodies = [(properties.type, json.loads(body)) for properties, body in rabbit.drain(queue)]
        heard.extend(one for one in bodies if one[1]["transaction_id"] == instance)
        return heard if len(heard) >= 4 else []

    stack.wait_for(all_came, seconds=180, what="all messages of a study")
    assert [kind for kind, _ in heard] == ["WorkflowStarted", "TaskStarted", "TaskCompleted", "WorkflowCompleted"]
    assert heard[1][1]["task_id"] == "route" and heard[1][1]["payload_path"] == f"payloads/{study.payload_id}"
    assert (heard[3][1]["status"], heard[3][1]["state"]) == (3, 2)
    assert len({body["correlation_id"] for _, body in heard}) == 1
