"""Nothing of what a broker brings is lost or doubled, whoever is killed. The long form is in tests/chaos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.gateway.broker_storm import TOPIC, check, storm
from tests.gateway.conftest import Site
from tests.rabbitmq import RabbitNode

MESSAGES = int(os.environ.get("CHAOS_MESSAGES", "100"))


@pytest.mark.chaos
def test_each_request_has_its_runs_once_and_each_wrong_one_its_reason(
    site: Site, rabbit: RabbitNode, tmp_path: Path
) -> None:
    rabbit.purge(TOPIC, "workflow.request")
    told = storm(site, rabbit, tmp_path, messages=MESSAGES, kills=3)
    print(told)
    check(told, site, rabbit)
