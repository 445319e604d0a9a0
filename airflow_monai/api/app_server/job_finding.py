"""From a job's id to what is known of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from fastapi import HTTPException
from sqlalchemy.orm import Session

from airflow_monai.api.app_server.job_views import FoundJob
from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.instances.ids import RunName, ids
from airflow_monai.api.instances.jobs import job_of, jobs_of
from airflow_monai.jobs.requests import JobRequests
from airflow_monai.jobs.status import JobStatus
from airflow_monai.maps.workflows import PREFIX
from airflow_monai.store.base import Store


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
    unstarted = requests.unstarted(wanted)
    if unstarted is not None:
        return FoundJob(None, unstarted.job, unstarted)
    waiting = requests.waiting_job(wanted)
    return FoundJob(None, waiting[1]) if waiting else None


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

    def takes(self, job: FoundJob) -> bool:
        """Whether a job without a run is one of them."""
        wanted = job.wanted
        assert wanted is not None
        created = datetime.fromisoformat(wanted.created)
        return (
            (self.status is None or job.status is self.status)
            and (self.dag_ids is None or wanted.dag_id in self.dag_ids)
            and (self.dataset is None or wanted.payload_id == self.dataset)
            and (self.since is None or created >= self.since)
            and (self.until is None or created < self.until)
        )


def jobs_without_run(store: Store, session: Session, wanted: JobFilter) -> list[FoundJob]:
    """Jobs that wait for their run or never get one, the newest first. There are few at any time."""
    if wanted.status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
        return []
    requests = JobRequests(store)
    found = {item.job.job_id: FoundJob(None, item.job, item) for item in requests.all_unstarted()}
    for request in requests.open():
        for job in request.jobs:
            found.setdefault(job.job_id, FoundJob(None, job))
    names = {RunName(job.dag_id, job.run_id): job_id for job_id, job in found.items()}
    for name in jobs_of(session, names):
        del found[names[name]]
    jobs = [job for job in found.values() if wanted.takes(job)]
    return sorted(jobs, key=lambda job: job.wanted.created if job.wanted else "", reverse=True)
