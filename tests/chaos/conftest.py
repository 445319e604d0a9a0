"""Long tests that are not part of ``make test``: `make chaos`.

CHAOS_STUDIES, CHAOS_SECONDS, CHAOS_ABORTS, CHAOS_ANNOUNCED and CHAOS_SEED say how much of it; each test prints what it
did and saw in one paragraph. They use the Airflow of the end-to-end tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.conftest import auditor, mail, map_images, maps, metrics, orthanc_stack, results, stack  # noqa: F401


@pytest.fixture(scope="session")
def neighbours() -> None:
    """None: these tests need the machine for themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(4 * 3600))


def amount(name: str, default: int) -> int:
    """How much of it, from the environment."""
    return int(os.environ.get(name) or default)


def report(text: str) -> None:
    """One paragraph for people; shown because `make chaos` does not capture output."""
    print(f"\n{' '.join(text.split())}")
