"""docs/api.md: its limits are the settings' defaults. Its walk is gone in tests/e2e/test_api.py."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_monai.api.common.access import MEANINGS, Right
from airflow_monai.get_provider_info import get_provider_info

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def test_limits_are_those_of_the_settings() -> None:
    options = get_provider_info()["config"]["monai"]["options"]
    told = dict(re.findall(r"^\| `(api_\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
    assert told == {name: option["default"] for name, option in options.items() if name in told} and len(told) == 3


def test_every_right_is_described() -> None:
    assert set(MEANINGS) == set(Right)
