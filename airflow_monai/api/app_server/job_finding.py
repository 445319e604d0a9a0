"""From a job's id to what is known of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy.orm import Session

from airflow_monai.api.app_server.job_views import FoundJob
from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.instances.ids import RunName, ids
from airflow_monai.api.instances.jobs import job_of, jobs_of
from airflow_monai.errors import DamagedObject
from airflow_monai.jobs.index import Entry, JobIndex, Why, moment_mark, workflow_mark
from airflow_monai.jobs.requests import JobRequests
from airflow_monai.jobs.status import JobStatus
from airflow_monai.maps.workflows import PREFIX
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once


def find_job(job_id: str, caller: Caller, right: Right, store: Store, session: Session) -> FoundJob:
    """A job that the caller has this right on.

    :raises HTTPException: 404 where there is none, 403 where the caller may not.
    """
    found = _with_run(job_id, session) or _without_run(job_id, store)
    if found is None:
        raise HTTPException(404, "There is no such job.")
    caller.check(right, found.dag_id)
    return found


def _with_run(job_id: str, session: Session) -> FoundJob | None:
    name = ids.run(job_id, session)
    if name is None or not name.dag_id.startswith(PREFIX):
        return None
    row = job_of(session, name)
    return FoundJob(row) if row else None


def _without_run(job_id: str, store: Store) -> FoundJob | None:
    requests, wanted = JobRequests(store), job_id.strip().lower()
    if not wanted.replace("-", "").isalnum():
        return None
    if (unstarted := _unstarted(wanted, requests)) is not None:
        return unstarted
    waiting = requests.waiting_job(wanted)
    return FoundJob(None, waiting[1], request=waiting[0]) if waiting else None


def _unstarted(job_id: str, requests: JobRequests) -> FoundJob | None:
    """A job that never gets a run."""
    unstarted = requests.unstarted(job_id)
    return FoundJob(None, unstarted.job, unstarted) if unstarted is not None else None


def dags_of_jobs(instance_ids: Iterable[str], store: Store) -> set[str | None]:
    """The DAGs of jobs and other workflow instances: of their runs, or as the request of a job names it that has none.
    None is among them where there is an instance of neither."""
    with create_session() as session:
        runs = {one: ids.run(one, session) for one in instance_ids}
        found: set[str | None] = {run.dag_id for run in runs.values() if run is not None}
        missing = [one for one, run in runs.items() if run is None]
        requests = JobRequests(store)
        waiting = {entry.job_id: entry for entry in (requests.index.entries() if missing else ()) if entry.request}
        for one in missing:
            job = (_job_of(waiting[one], requests) if one in waiting else None) or _unstarted(one, requests)
            run = ids.run(one, session) if job is None else None  # it may have begun while it was looked for
            found.add(job.dag_id if job is not None else run.dag_id if run is not None else None)
    return found


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None takes all.

    :param dag_ids: of these MAPs' workflows.
    """

    status: JobStatus | None = None
    dag_ids: Collection[str] | None = None
    dataset: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def entries(self, index: JobIndex) -> list[Entry]:
        """Those without a run that it takes, the newest first."""
        states = [why for why, status in _STATUS.items() if self.status in (None, status)]
        dags = None if self.dag_ids is None else frozenset(map(workflow_mark, self.dag_ids))
        since = moment_mark(self.since) if self.since else ""
        until = moment_mark(self.until) if self.until else "~"
        return [
            entry
            for entry in (index.latest_first(states) if states else ())
            if (dags is None or entry.workflow in dags)
            and (self.dataset is None or entry.payload_id == self.dataset)
            and since <= entry.at < until
        ]


_STATUS = {Why.WAITS: JobStatus.QUEUED, Why.CANCELLED: JobStatus.CANCELLED, Why.NEVER_BEGUN: JobStatus.FAILED}


def jobs_without_run(
    store: Store, session: Session, wanted: JobFilter, *, limit: int, offset: int
) -> tuple[list[FoundJob], int]:
    """A page of the jobs that wait for their run or never get one, the newest first, and how many there are. Reads the
    names of all, and the page."""
    requests = JobRequests(store)
    entries = wanted.entries(requests.index)
    while True:
        page = entries[offset : offset + limit]
        damaged: set[Entry] = set()
        found = known_of(page, requests, damaged)
        names = {entry: RunName(job.dag_id, job.run_id) for entry, job in found.items()}
        begun = jobs_of(session, set(names.values()))
        gone = {entry for entry in page if entry not in damaged and (entry not in found or names[entry] in begun)}
        if not gone:
            return list(found.values()), len(entries)
        requests.tidy(gone, with_run=names)
        entries = [entry for entry in entries if entry not in gone]


def known_of(page: Iterable[Entry], requests: JobRequests, damaged: set[Entry]) -> dict[Entry, FoundJob]:
    """The jobs of entries that are still so.

    :param damaged: takes the entries of which nobody can say so.
    """
    found = {}
    for entry in page:
        try:
            job = _job_of(entry, requests)
        except DamagedObject as error:
            tell_once(str(error))
            damaged.add(entry)
        else:
            if job is not None:
                found[entry] = job
    return found


def _job_of(entry: Entry, requests: JobRequests) -> FoundJob | None:
    """None for an entry of what is not so any more."""
    if entry.request:
        waiting = requests.of_entry(entry)
        return FoundJob(None, waiting[1]) if waiting else None
    unstarted = requests.unstarted(entry.job_id)
    if unstarted is None or unstarted.cancelled is not (entry.why is Why.CANCELLED):
        return None
    return FoundJob(None, unstarted.job, unstarted)
