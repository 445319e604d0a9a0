"""Which jobs have no run, as names alone, so that a list reads no more than the page that it shows.

jobs/index/<asked for at>.<state>.<workflow>.<payload>.<job>.<request>

An entry is there before what it is of, and may be left when that has changed: it only says what to look at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING

from airflow_monai.store.base import Store

if TYPE_CHECKING:
    from airflow_monai.jobs.requests import WantedJob

FOLDER = "jobs/index"
_NO_REQUEST = "0"


class Why(str, Enum):
    """Why a job has no run."""

    WAITS = "w"
    CANCELLED = "c"
    NEVER_BEGUN = "f"


@dataclass(frozen=True, slots=True)
class Entry:
    """
    :param at: when the job was asked for, as digits: they sort by time.
    :param workflow: :func:`workflow_mark` of its DAG.
    :param request: of a job that waits.
    """

    at: str
    why: Why
    workflow: str
    payload_id: str
    job_id: str
    request: str = ""

    @property
    def key(self) -> str:
        parts = (self.at, self.why.value, self.workflow, self.payload_id, self.job_id, self.request or _NO_REQUEST)
        return f"{FOLDER}/{'.'.join(parts)}"

    @classmethod
    def of(cls, job: WantedJob, why: Why, request: str = "") -> Entry:
        return cls(
            moment_mark(datetime.fromisoformat(job.created)),
            why,
            workflow_mark(job.dag_id),
            job.payload_id,
            job.job_id,
            request,
        )


class JobIndex:
    """The index of a store."""

    def __init__(self, store: Store):
        self._store = store

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._store.create_json(entry.key, {})

    def remove(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._store.delete(entry.key)

    def entries(self) -> Iterator[Entry]:
        """All there are, at one listing, those that were asked for first first."""
        for name in self._store.children(FOLDER):
            parts = name.split(".")
            try:
                at, why, workflow, payload_id, job_id, request = parts
                yield Entry(at, Why(why), workflow, payload_id, job_id, "" if request == _NO_REQUEST else request)
            except ValueError:
                continue  # none of ours

    def latest_first(self, states: Collection[Why]) -> list[Entry]:
        """One of each job that has no run for one of these reasons; that it never gets one counts more than that it
        waits."""
        found: dict[str, Entry] = {}
        for entry in self.entries():
            if entry.job_id not in found or found[entry.job_id].why is Why.WAITS:
                found[entry.job_id] = entry
        return sorted((one for one in found.values() if one.why in states), key=lambda one: one.at, reverse=True)


def workflow_mark(dag_id: str) -> str:
    """Stands for a DAG whose id may be long."""
    return hashlib.sha256(dag_id.encode()).hexdigest()[:16]


def moment_mark(moment: datetime) -> str:
    """Digits down to milliseconds, rounded up."""
    text = moment.astimezone(timezone.utc).isoformat(timespec="microseconds")
    digits = re.sub(r"\D", "", text.partition("+")[0])
    rounded = int(digits[:17]) + (digits[17:] != "000")
    return f"{rounded:017d}"
