"""What was asked for through an API, durable before anybody is told yes, so that it is begun once, whatever dies.

jobs/open/<request>.json        there is still something to begin
jobs/requests/<request>.json    the jobs of one request; whoever creates it has asked, all others learn which those are
jobs/unstarted/<job>.json       a job that never gets a run, and why
jobs/index/...                  the names of both (:mod:`airflow_monai.jobs.index`)
jobs/cancelling/<job>.json      somebody cancels it, and it may be getting its run just now, which then has to end

The note below ``open`` comes first: one without a request is of somebody who died before anything was promised.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from airflow_monai.errors import DamagedObject, MonaiError, StoreError
from airflow_monai.jobs.index import Entry, JobIndex, Why
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.payloads import instance_id_of, job_run_id

MAX_KEY = 200
ABANDONED_SECONDS = 3600.0
"""After so long a note without a request is nobody's any more."""


class KeyReused(MonaiError):
    """An idempotency key comes again with another request."""


class Priority(str, Enum):
    """How urgent a job is, in the words of the workflow language."""

    URGENT = "urgent"
    ROUTINE = "routine"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class WantedJob:
    """A job that somebody asked for.

    :param label: ``name:version`` of the MAP, ``revision`` and ``digest``: as it was registered then.
    :param by: who asked, and ``created``: when (UTC, ISO 8601).
    """

    dag_id: str
    run_id: str
    payload_id: str
    label: str
    revision: int
    digest: str
    priority: str
    by: str
    created: str

    @property
    def job_id(self) -> str:
        return instance_id_of(self.dag_id, self.run_id)


@dataclass(frozen=True, slots=True)
class Request:
    """What one call asked for.

    :param id: follows from caller and idempotency key, where there is one.
    :param asked: a hash of what was asked for.
    """

    id: str
    asked: str
    jobs: tuple[WantedJob, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "asked": self.asked, "jobs": [asdict(job) for job in self.jobs]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Request:
        return cls(data["id"], data["asked"], tuple(WantedJob(**job) for job in data["jobs"]))


@dataclass(frozen=True, slots=True)
class Unstarted:
    """A job that never gets a run.

    :param cancelled: somebody cancelled it before; else ``reason`` says what was in its way.
    :param at: when that was clear, ``by``: who cancelled it.
    """

    job: WantedJob
    cancelled: bool
    reason: str
    at: str
    by: str = ""


def request_id(user: str, key: str | None) -> str:
    """The id of a request: always the same for a caller's idempotency key, else a new one."""
    if key is None:
        return uuid.uuid4().hex
    return hashlib.sha256(f"{user}\0{key}".encode()).hexdigest()[:32]


def asked_hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def run_id_for(request: str, label: str, payload_id: str, priority: Priority) -> str:
    """The run id of a request's job: no other request has it, and this one has it for ever."""
    token = hashlib.sha256(f"{request}\0{label}".encode()).hexdigest()[:20]
    return job_run_id(payload_id, priority.value, token)


def now_text() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class JobRequests:
    """The requests of a store."""

    def __init__(self, store: Store):
        self.store = store
        self.index = JobIndex(store)

    def place(self, request: str, asked: str, jobs: Callable[[], Sequence[WantedJob]]) -> tuple[Request, bool]:
        """Make a request durable, once.

        :param jobs: gives what it asks for; called only where it was not placed before.
        :return: the request, and whether this call placed it.
        :raises KeyReused: when it was placed before, and asked for something else.
        """
        known = self.find(request)
        if known is None:
            made = Request(request, asked, tuple(jobs()))
            self.store.write_json(_open_key(request), {"time": time.time()})
            self.index.add(_entries(made))
            if self.store.create_json(_request_key(request), made.to_dict()):
                if not self.is_open(request):
                    self._open_again(request)
                return made, True
            known = self.find(request)
        if known is None:
            raise StoreError(f"The request {request} has vanished from the store.")
        if known.asked != asked:
            raise KeyReused("This Idempotency-Key has been used for another request: use a new one.")
        return known, False

    def find(self, request: str) -> Request | None:
        key = _request_key(request)
        if not self.store.exists(key):
            return None
        return self.store.read_as(key, Request.from_dict)

    def is_open(self, request: str) -> bool:
        return self.store.exists(_open_key(request))

    def open(self, most: int | None = None) -> Iterator[Request]:
        """Those with jobs that are still to be begun; what nobody stands by any more is cleared away.

        :param most: any so many of them; None: all.
        """
        names = list(self.store.children("jobs/open"))
        for name in names if most is None else random.sample(names, min(most, len(names))):
            request = name.removesuffix(".json")
            try:
                found = self.find(request)
                if found is not None:
                    yield found
                elif time.time() - self.store.read_as(_open_key(request), _time) > ABANDONED_SECONDS:
                    self.index.remove([entry for entry in self.index.entries() if entry.request == request])
                    self.store.delete(_open_key(request))
                    self._open_again(request)
            except DamagedObject as error:
                tell_once(str(error))
            except StoreError:
                continue  # done with meanwhile: that may not keep the others

    def _open_again(self, request: str) -> None:
        """Have it begun where it was placed just while it was cleared away: whoever places it looks after it has done
        so, who clears it away when that is done, so that one of them sees it. To begin a job again does nothing."""
        placed = self.find(request)
        if placed is not None:
            self.store.write_json(_open_key(request), {"time": time.time()})
            self.index.add(_entries(placed))

    def close(self, request: Request) -> None:
        """All of its jobs have begun, or never will."""
        self.index.remove(_entries(request))
        self.store.delete(_open_key(request.id))

    def begun(self, request: Request, job: WantedJob) -> None:
        """One of its jobs has its run now."""
        self.index.remove([Entry.of(job, Why.WAITS, request.id)])

    def waiting_job(self, job_id: str) -> tuple[Request, WantedJob] | None:
        """A job of an open request."""
        for entry in self.index.entries():
            if entry.job_id == job_id and entry.request and (found := self.of_entry(entry)):
                return found
        return None

    def of_entry(self, entry: Entry) -> tuple[Request, WantedJob] | None:
        """The job that waits; None when it does not (any more, or yet)."""
        request = self.find(entry.request) if self.is_open(entry.request) else None
        job = next((job for job in request.jobs if job.job_id == entry.job_id), None) if request else None
        return (request, job) if request and job else None

    def tidy(self, entries: Iterable[Entry], with_run: Container[Entry]) -> None:
        """Remove those of the entries that nobody is going to remove: of requests that are done with, as those that
        somebody was quicker to place, and of jobs that have their run after all."""
        for entry in entries:
            if entry.request:
                over = not self.is_open(entry.request)  # its note was there before the entry
            else:
                over = entry in with_run or self.store.exists(_unstarted_key(entry.job_id))
            if over:
                self.index.remove([entry])

    def unstarted(self, job_id: str) -> Unstarted | None:
        """What is noted of a job that never gets a run; None for another."""
        key = _unstarted_key(job_id)
        if not self.store.exists(key):
            return None
        return self.store.read_as(key, _unstarted)

    def never_start(self, job: WantedJob, *, reason: str, cancelled_by: str = "") -> Unstarted:
        """Note that a job gets no run; the first one who says why counts."""
        noted = Unstarted(job, bool(cancelled_by), reason, now_text(), cancelled_by)
        self.index.add([Entry.of(job, Why.CANCELLED if cancelled_by else Why.NEVER_BEGUN)])
        self.store.create_json(_unstarted_key(job.job_id), asdict(noted))
        return self.unstarted(job.job_id) or noted

    def cancel(self, job: WantedJob, by: str) -> Unstarted:
        """Note that a job, of which no run was seen, is cancelled. Its run may come to be at this moment: whoever made
        it ends it, or a gateway, until :meth:`close_cancelling` says that there is nothing to end."""
        self.store.create_json(_cancelling_key(job.job_id), {"job": asdict(job), "by": by})
        return self.never_start(job, reason=f"Cancelled by {by} before it began.", cancelled_by=by)

    def cancelling(self) -> Iterator[tuple[WantedJob, str]]:
        """Jobs whose cancelling nobody has seen through yet, each with who wants it."""
        for name in self.store.children("jobs/cancelling"):
            try:
                noted = self.store.read_as(f"jobs/cancelling/{name}", _Cancelling.from_dict)
            except DamagedObject as error:
                tell_once(str(error))
                continue
            except StoreError:
                continue  # done with meanwhile
            yield noted.job, noted.by

    def close_cancelling(self, job_id: str) -> None:
        """Its run has ended, or there was none: from now on whoever makes one sees that it is unwanted."""
        self.store.delete(_cancelling_key(job_id))


@dataclass(frozen=True, slots=True)
class _Cancelling:
    job: WantedJob
    by: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> _Cancelling:
        return cls(WantedJob(**data["job"]), data["by"])


def _time(data: Mapping[str, Any]) -> float:
    return float(data["time"])


def _unstarted(data: Mapping[str, Any]) -> Unstarted:
    return Unstarted(**{**data, "job": WantedJob(**data["job"])})


def _entries(request: Request) -> list[Entry]:
    return [Entry.of(job, Why.WAITS, request.id) for job in request.jobs]


def _open_key(request: str) -> str:
    return f"jobs/open/{request}.json"


def _request_key(request: str) -> str:
    return f"jobs/requests/{request}.json"


def _unstarted_key(job_id: str) -> str:
    return f"jobs/unstarted/{job_id}.json"


def _cancelling_key(job_id: str) -> str:
    return f"jobs/cancelling/{job_id}.json"
