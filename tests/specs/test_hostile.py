"""Hostile texts are errors, within a second and bounded memory, and none of what they hold is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.specs.hostile import cases

NAMES = [name for name, _ in cases("nowhere")]
# Large, odd and legal: these load, within the same bounds.
LEGAL = {
    "numbers/condition-digits",
    "tasks/1000-in-a-chain",
    "tasks/all-onward",
    "tasks/for-each",
    "conditions/brackets",
    "conditions/ors",
    "conditions/templates",
    "code/jinja",
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "tests.specs.hostile", str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    found = {(told := json.loads(line))["name"]: told for line in done.stdout.splitlines()}
    return {**found, "folder": folder, "stderr": done.stderr}


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_text_is_an_error_within_its_bounds(name: str, readings: dict[str, Any]):
    told = readings[name]
    assert told["exit"] == 0, readings["stderr"][-2000:]
    assert told["loads"] is (name in LEGAL)
    assert told["problems"] or told["loads"]
    assert told["seconds"] < 1
    assert told["shown"] < 200_000


def test_nothing_of_it_is_run(readings: dict[str, Any]):
    assert len(readings) == len(NAMES) + 2
    assert list(readings["folder"].iterdir()) == []
