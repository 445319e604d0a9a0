"""What a task tells of its application's run beside the results: where and how long it ran, what it used and waited.

It goes into the task's return value and its record's statistics, also those of a failed task. Nothing in it is about
the patient. What nobody measured is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MonaiError

if TYPE_CHECKING:
    from airflow_monai.maps.runners.base import Exit, MapJob
    from airflow_monai.tasks.run import TaskRun


def facts_of(job: MapJob, ended: Exit) -> dict[str, Any]:
    """The facts of one run of a job."""
    usage = ended.usage
    facts: dict[str, Any] = {
        "location": job.found.location,
        "digest": job.found.digest or None,
        "seconds": ended.seconds,
        "exit_code": ended.code,
        "reattached": ended.reattached,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "cpu_seconds": None if usage.cpu_seconds is None else round(usage.cpu_seconds, 3),
        "gpu_memory_bytes": usage.gpu_memory_bytes,
    }
    return {name: value for name, value in facts.items() if value is not None}


def queue_seconds(run: TaskRun, previous_task_id: str | None, begun: datetime) -> float | None:
    """How long the task had been ready to run when its first try began, in the queue of its pool and of workers.

    It was ready when the task before it had ended, or else when the run began; of a task with several before it, and of
    later tries, nobody tells.
    """
    if run.try_number != 1:  # a retry, or cleared, maybe days later
        return None
    record = run.record(previous_task_id) if previous_task_id else None
    ready = (record.end_time if record else run.run_started) or ""
    try:
        seconds = (begun - datetime.fromisoformat(ready)).total_seconds()
    except (ValueError, TypeError):
        return None
    return round(max(0.0, seconds), 3)


@contextmanager
def told_with(facts: Mapping[str, Any]) -> Iterator[None]:
    """Give these facts to what goes wrong in the block, for the record of the failure."""
    try:
        yield
    except MonaiError as error:
        error.facts = facts
        raise
