"""The trigger of a batch goes on for as long as it has to wait."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from airflow_monai.errors import MonaiError
from airflow_monai.triggers import batch
from airflow_monai.triggers.batch import LONGEST_WAIT, BatchTrigger


class Away:
    """Runs of a batch while Airflow does not answer, for so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @property
    def is_done(self) -> bool:
        return not self.steps

    def step(self) -> None:
        self.steps -= 1
        if self.steps:
            raise MonaiError("Airflow is away")

    def told(self) -> str:
        return "0 of 1 done"


def test_a_weekend_without_an_answer_ends_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def at_once(work: Any) -> None:
        work()

    monkeypatch.setattr(batch.asyncio, "sleep", pause)
    monkeypatch.setattr(batch.asyncio, "to_thread", at_once)
    away = Away(2_000)
    asyncio.run(BatchTrigger(workflow_dag_id="w", batch="b", max_active=1)._see_through(cast(Any, away)))
    assert len(pauses) == 1_999 and pauses[0] < pauses[1] < pauses[-1] == LONGEST_WAIT
