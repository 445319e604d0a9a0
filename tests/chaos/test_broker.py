"""Requests by a broker, while gateways and the broker itself are killed: the long form of tests/gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.conftest import amount, report
from tests.gateway.broker_storm import TOPIC, check, storm
from tests.gateway.conftest import Site, write_workflow
from tests.gateway.standin import StandInAirflow
from tests.rabbitmq import RabbitNode


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    airflow = StandInAirflow()
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", airflow.connection)
    site = Site(tmp_path, airflow)
    write_workflow(site.workflows)
    yield site
    site.close()
    airflow.stop()


@pytest.mark.timeout(3600)
def test_two_thousand_messages(site: Site, rabbit: RabbitNode, tmp_path: Path) -> None:
    rabbit.purge(TOPIC, "workflow.request")
    messages = amount("CHAOS_MESSAGES", 2000)
    told = storm(site, rabbit, tmp_path, messages=messages, kills=9, seed=amount("CHAOS_SEED", 1))
    report(str(told))
    check(told, site, rabbit)
