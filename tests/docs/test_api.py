"""docs/api.md: its limits are the settings' defaults, its error is one that comes. Its walk is gone in tests/e2e."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient

from airflow_monai.api.common.access import MEANINGS, Right
from airflow_monai.get_provider_info import get_provider_info
from tests.api.conftest import airflow_database, airflow_tables, api, people, site_store  # noqa: F401

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def test_limits_are_those_of_the_settings() -> None:
    options = get_provider_info()["config"]["monai"]["options"]
    told = dict(re.findall(r"^\| `(api_\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
    assert told == {name: option["default"] for name, option in options.items() if name in told} and len(told) == 3


def test_every_right_is_described() -> None:
    assert set(MEANINGS) == set(Right)


def test_the_error_on_the_page_is_one_that_comes(api: Callable[[str], TestClient]) -> None:  # noqa: F811
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    answer = api("op").post("/workflow-manager/credentials", json={"type": "http", "host": "x"})
    assert answer.json() == {**json.loads(shown), "instance": "/workflow-manager/credentials"}
