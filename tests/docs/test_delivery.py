"""docs/delivery.md: its commands make destinations that can be used, and it has all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import certifi
import pytest

from airflow_monai.sinks.base import Destination
from airflow_monai.sinks.registry import SINKS, open_sink

PAGE = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text("utf-8")
COMMANDS = re.findall(r"^airflow connections add (\S+) --conn-json '(\{.*?\})'$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("name", "connection"), COMMANDS, ids=lambda text: text if text.isalnum() else "")
def test_an_example_is_a_destination(name: str, connection: str) -> None:
    known = json.loads(connection.replace("/etc/monai/hospital-ca.pem", certifi.where()))
    sink = open_sink(Destination(name, **known))
    assert sink.destination.name == name


def test_every_destination_is_on_the_page() -> None:
    assert {json.loads(connection)["conn_type"] for _, connection in COMMANDS} == set(SINKS)
    for kind in SINKS:
        assert f"<!-- connection: {kind} -->" in PAGE
