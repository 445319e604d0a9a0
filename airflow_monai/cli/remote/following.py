"""Waiting for jobs: what they do is shown until all have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from airflow_monai.cli.printing import text_of
from airflow_monai.cli.progress import Progress
from airflow_monai.client.server import Server, place
from airflow_monai.errors import CallerUnknown, ServerUnavailable

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
SHORTEST, LONGEST = 1.0, 5.0
"""Seconds between two looks: the longer it takes, the fewer."""
AWAY = 300.0
"""A server that does not answer for so many seconds is not waited for any longer; one that starts again is."""

Job = dict[str, Any]


def has_ended(job: Job) -> bool:
    return job["status"] in ENDED


def follow(
    server: Server,
    jobs: Sequence[Job],
    progress: Progress,
    *,
    until: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Job]:
    """The jobs as they ended; as they are when the time is over.

    :param until: by the clock.
    :raises ServerRefused: when one is not there any more.
    :raises ServerUnavailable: when the server has been away for long.
    """
    now, pause, heard = list(jobs), SHORTEST, clock()
    while not all(map(has_ended, now)) and (until is None or clock() < until):
        sleep(pause)
        pause = min(LONGEST, pause * 1.2)
        try:
            now = [job if has_ended(job) else server.call("GET", place("jobs", job["id"])) for job in now]
        except CallerUnknown:
            raise
        except ServerUnavailable as error:
            if clock() - heard > AWAY:
                raise
            progress.tell(f"{error} Still waiting.")
        else:
            heard = clock()
            progress.tell(told(now))
    progress.clear()
    return now


def told(jobs: Sequence[Job]) -> str:
    """How far they are, in a line."""
    open_ones = [job for job in jobs if not has_ended(job)]
    done = f"{len(jobs) - len(open_ones)} of {len(jobs)} jobs have ended" if len(jobs) > 1 else ""
    return "; ".join(filter(None, [done, *map(_of_one, open_ones[:1])]))


def _of_one(job: Job) -> str:
    parts = [f"{job['map']} {job['status']}"]
    position, progress = job.get("queue_position"), job.get("progress") or {}
    if position is not None:
        parts.append(f"{position} before it")
    if progress.get("percent") is not None:
        parts.append(f"{progress['percent']:.0f} %")
    parts += [progress.get("stage") or "", (job.get("reason") or "") if job["status"] == "QUEUED" else ""]
    return text_of(list(filter(None, parts)))
