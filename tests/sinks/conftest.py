"""Fixtures of the sinks' tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again need not take seconds here."""
    monkeypatch.setattr("airflow_monai.sinks.dimse.lines.PAUSES", (0.0, 0.0, 0.0))
