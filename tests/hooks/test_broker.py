"""The connections of brokers and of export agents, and their test buttons."""

from __future__ import annotations

import json

import pytest

from airflow_monai.errors import BrokerMisused, DestinationError
from airflow_monai.hooks.base import destination
from airflow_monai.hooks.broker import RabbitMqHook, broker_address
from airflow_monai.hooks.export_agent import ExportAgentHook
from tests.rabbitmq import RabbitNode


def test_the_button_of_a_broker(
    rabbit: RabbitNode, exchange: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GOOD", rabbit.airflow_connection(exchange))
    monkeypatch.setenv("AIRFLOW_CONN_PLAIN", f"amqp://guest:guest@127.0.0.1:{rabbit.port}/%2F")
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", f"amqp://guest:secret@127.0.0.1:{rabbit.port}/%2F")
    monkeypatch.setenv("AIRFLOW_CONN_AWAY", f"amqp://127.0.0.1:{free_port}")
    found, text = RabbitMqHook("good").test_connection()
    assert found and text.startswith(f"Logged in at 127.0.0.1:{rabbit.port}; the exchange '{exchange}' will be made")
    assert RabbitMqHook("plain").test_connection()[0]
    found, text = RabbitMqHook("wrong").test_connection()
    assert not found and "refuses the login" in text and "secret" not in text
    found, text = RabbitMqHook("away").test_connection()
    assert not found and "cannot be reached" in text


def test_a_connection_that_is_not_there() -> None:
    with pytest.raises(BrokerMisused, match="There is no Airflow connection 'nowhere' of a broker"):
        broker_address("nowhere")


def test_an_agent_is_reached_by_the_site_s_broker_unless_it_names_its_own(
    rabbit: RabbitNode, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"agent": "monaiscu", "exchange": "monaideploy", "tls": False, "ca_file": None}
    monkeypatch.setenv("AIRFLOW_CONN_PACS", json.dumps({"conn_type": "monai_broker", "extra": form}))
    with pytest.raises(DestinationError, match="it names no broker"):
        destination("PACS")
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_CONN_ID", "site_broker")
    monkeypatch.setenv("AIRFLOW_CONN_SITE_BROKER", rabbit.airflow_connection(exchange))
    found = destination("PACS")
    assert (found.name, found.host, found.port) == ("PACS", "127.0.0.1", rabbit.port)
    assert (found.extra["exchange"], found.extra["agent"]) == (exchange, "monaiscu")
    good, text = ExportAgentHook("PACS").test_connection()
    assert good and text.endswith("Exports go out as md.export.request.monaiscu.")
