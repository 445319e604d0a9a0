"""A store for the triggers to look at."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.store.local import LocalStore
from airflow_monai.triggers.watch import WatchTrigger


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path))
    return LocalStore(tmp_path)


def event_of(trigger: WatchTrigger, seconds: float = 60) -> Any:
    """What the trigger fires with; TimeoutError when it does not."""

    async def first() -> Any:
        return (await anext(trigger.run())).payload

    return asyncio.run(asyncio.wait_for(first(), seconds))
