"""What a task tells of its run beside its results."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_monai.operators.facts import queue_seconds
from airflow_monai.tasks.run import TaskRun, sortable_time

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(("try_number", "generation", "told"), [(1, 1, 40.0), (1, 3, 40.0), (2, 1, None), (2, 2, None)])
def test_how_long_a_task_was_queued_is_told_of_its_first_try_only(
    try_number: int, generation: int, told: float | None
) -> None:
    """One that is cleared, maybe days later, was not queued since its run began."""
    nothing: Any = None
    run = TaskRun(nothing, nothing, nothing, "work", -1, generation, try_number, "w", "", sortable_time(BEGAN))
    assert queue_seconds(run, None, BEGAN + timedelta(seconds=40)) == told
