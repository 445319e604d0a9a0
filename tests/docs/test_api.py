"""docs/api.md: its limits are the settings' defaults. Its walk is gone in tests/e2e/test_api.py."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from airflow_monai.api.common.access import MEANINGS, Right
from airflow_monai.cli.commands import MONAI
from airflow_monai.cli.groups.handlers import HANDLERS
from airflow_monai.cli.groups.jobs import JOBS
from airflow_monai.cli.model import Group
from airflow_monai.cli.standalone import parser
from airflow_monai.get_provider_info import get_provider_info

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def test_limits_are_those_of_the_settings() -> None:
    options = get_provider_info()["config"]["monai"]["options"]
    told = dict(re.findall(r"^\| `(api_\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
    assert told == {name: option["default"] for name, option in options.items() if name in told} and len(told) == 3


def test_every_right_is_described() -> None:
    assert set(MEANINGS) == set(Right)


@pytest.mark.parametrize("line", re.findall(r"^airflow monai (.*)$", PAGE, re.MULTILINE))
def test_a_command_of_the_page_can_be_typed(line: str) -> None:
    assert parser().parse_args(shlex.split(line)).function


def test_the_table_has_the_groups_that_ask_a_server() -> None:
    block = PAGE.partition("<!-- commands: servers -->")[2].partition("<!-- end -->")[0]
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (`.*`) \|", block, re.MULTILINE))
    for group in (JOBS, HANDLERS):
        assert re.findall(r"`([a-z-]+)`", table[group.name]) == [command.name for command in group.commands]
    assert "`show`, `resend`, `upload`, `download`, `delete`" in table["payloads"]
    assert "`start`" not in table["payloads"]
    assert set(table) < {group.name for group in MONAI.commands if isinstance(group, Group)}
    assert {"datasets", "workflows", "instances", "tasks", "credentials", "sinks", "export-tasks"} < set(table)
