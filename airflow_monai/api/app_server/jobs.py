"""Jobs: run a MAP on a dataset, see how it is, cancel it, finalize it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import Annotated

from airflow.utils.session import create_session
from fastapi import APIRouter, BackgroundTasks, Header, HTTPException, Query, Response
from sqlalchemy.orm import Session

from airflow_monai import settings
from airflow_monai.api.app_server.job_finding import JobFilter, find_job, jobs_without_run
from airflow_monai.api.app_server.job_models import Finalized, Job, JobPage, JobsStarted, NewJob
from airflow_monai.api.app_server.job_views import FoundJob, summary, whole
from airflow_monai.api.app_server.map_names import dag_id_for
from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.moments import utc
from airflow_monai.api.common.problems import responses
from airflow_monai.api.instances.data_rights import check_data
from airflow_monai.api.instances.ids import RunName
from airflow_monai.api.instances.jobs import job_of, jobs_of, list_jobs
from airflow_monai.api.instances.runs import RunFilter, visible_dags
from airflow_monai.api.instances.starting import RunsHere, end_run
from airflow_monai.api.runs import site_store
from airflow_monai.datasets.associations import Associations
from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.datasets.model import DatasetNotFound
from airflow_monai.jobs.clearing import ClearingKind, Clearings
from airflow_monai.jobs.requests import (
    MAX_KEY,
    JobRequests,
    KeyReused,
    Request,
    Unstarted,
    WantedJob,
    asked_hash,
    now_text,
    request_id,
    run_id_for,
)
from airflow_monai.jobs.starting import JobStarter
from airflow_monai.jobs.status import JobStatus
from airflow_monai.maps.registry import MapRegistry, RegisteredMap
from airflow_monai.maps.workflows import dag_id as dag_id_of_map
from airflow_monai.store.base import Store

router = APIRouter(prefix="/app-server/jobs", tags=["App Server: jobs"])
MAX_JOBS = 100
"""That one request may ask for: a dataset's MAPs."""

Limit = Annotated[int, Query(ge=1, le=1000, description="Of one page.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]


@router.post(
    "",
    status_code=201,
    summary="Run a MAP on a dataset",
    operation_id="start_job",
    responses={
        200: {"model": JobsStarted, "description": "The Idempotency-Key came before: these are the same jobs"},
        202: {"model": JobsStarted, "description": "Taken; a job's run is going to be there in a moment"},
        **responses(400, 404, 409),
    },
)
def start_job(
    wanted: NewJob,
    response: Response,
    caller: TheCaller,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_KEY,
            description="Any text of the caller's. The same text means the same request, which is carried out once.",
        ),
    ] = None,
) -> JobsStarted:
    """One job for a MAP, or one for each MAP that the dataset is associated with. When this answers the jobs are
    durable: they are begun even if no server survives it."""
    store = site_store()
    requests = JobRequests(store)
    number = request_id(caller.name, idempotency_key)
    body = wanted.model_dump(mode="json")
    try:
        request, is_new = requests.place(number, asked_hash(body), lambda: _jobs(store, caller, wanted, number))
    except KeyReused as error:
        raise HTTPException(409, str(error)) from None
    for job in request.jobs:
        caller.check(Right.START_RUNS, job.dag_id)
    if is_new:
        for job in request.jobs:
            facts = {"job": job.job_id, "map": job.label, "dataset": job.payload_id}
            note(caller, "monai.job.start", dag_id=job.dag_id, run_id=job.run_id, extra=facts)
    begun = _begin(store, request)
    response.status_code = (201 if is_new else 200) if begun else 202
    if len(request.jobs) == 1:
        response.headers["Location"] = f"jobs/{request.jobs[0].job_id}"
    with create_session() as session:
        rows = jobs_of(session, [RunName(job.dag_id, job.run_id) for job in request.jobs])
        found = [FoundJob(rows.get(RunName(job.dag_id, job.run_id)), job) for job in request.jobs]
        return JobsStarted(jobs=[summary(store, job) for job in found])


@router.get("", summary="List jobs", operation_id="list_jobs", responses=responses(400))
def show_jobs(
    caller: TheCaller,
    limit: Limit = 50,
    offset: Offset = 0,
    status: JobStatus | None = None,
    map: Annotated[str | None, Query(max_length=200, examples=["lung-seg:1.0.0"])] = None,
    dataset: Annotated[str | None, Query(max_length=100)] = None,
    since: Annotated[datetime | None, Query(description="Asked for at this time or later.")] = None,
    until: Annotated[datetime | None, Query(description="Asked for before this time.")] = None,
) -> JobPage:
    """The jobs of the MAPs that the caller may see, the newest first: those that were asked for here, and those that a
    study started which was sent to a MAP's AE title."""
    store = site_store()
    with create_session() as session:
        dag_ids = visible_dags(caller, Right.SEE_RUNS, session)
        if map is not None:
            asked = dag_id_for(map)
            dag_ids = frozenset({asked} if asked and (dag_ids is None or asked in dag_ids) else ())
        wanted = JobFilter(status, dag_ids, dataset, utc(since) if since else None, utc(until) if until else None)
        shown, without = jobs_without_run(store, session, wanted, limit=limit, offset=offset)
        runs = RunFilter(dag_ids=dag_ids, payload_id=dataset, since=wanted.since, until=wanted.until)
        rest = list_jobs(session, runs, status, limit=limit - len(shown), offset=max(0, offset - without))
        jobs = [*shown, *(FoundJob(row) for row in rest.items)]
        return JobPage(
            jobs=[summary(store, job) for job in jobs], total=without + rest.total, offset=offset, limit=limit
        )


@router.get("/{job_id}", summary="Tell how a job is", operation_id="get_job", responses=responses(404))
def show_job(job_id: str, caller: TheCaller) -> Job:
    """Status, progress, place in the queue, resources, and what there is to be fetched."""
    store = site_store()
    with create_session() as session:
        job = find_job(job_id, caller, Right.SEE_RUNS, store, session)
        if job.row is None and job.unstarted is None:
            job = _try_again(job, store, session)
        return whole(store, session, job)


@router.post("/{job_id}/cancel", summary="Cancel a job", operation_id="cancel_job", responses=responses(404, 409))
def cancel_job(job_id: str, caller: TheCaller) -> Job:
    """Its application is stopped and its container removed. A job that was cancelled already stays so."""
    store = site_store()
    with create_session() as session:
        job = find_job(job_id, caller, Right.CHANGE_RUNS, store, session)
    if job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        raise HTTPException(409, f"The job has ended already: {job.status.value}.")
    if job.status is not JobStatus.CANCELLED and _cancel(job, caller, store):
        note(caller, "monai.job.cancel", dag_id=job.dag_id, run_id=job.run_id, extra={"job": job.job_id})
    with create_session() as session:
        job = find_job(job_id, caller, Right.CHANGE_RUNS, store, session)
        if not job.status.has_ended:  # it got its run just then
            _cancel(job, caller, store)
            session.rollback()
            job = find_job(job_id, caller, Right.CHANGE_RUNS, store, session)
        if job.status is not JobStatus.CANCELLED:
            raise HTTPException(409, f"The job could not be cancelled: it is {job.status.value} now.")
        return whole(store, session, job)


@router.post("/{job_id}/finalize", summary="Finalize a job", operation_id="finalize_job", responses=responses(404, 409))
def finalize_job(job_id: str, caller: TheCaller, later: BackgroundTasks) -> Finalized:
    """Nobody needs its outputs any more: its results and its log are deleted within the site's time, and are answered
    410 from then on. What is known of how the job went stays."""
    store = site_store()
    with create_session() as session:
        job = find_job(job_id, caller, Right.CHANGE_RUNS, store, session)
    if not job.status.has_ended:
        raise HTTPException(409, f"The job has not ended yet: {job.status.value}.")
    folder = job.folder(store)
    if folder is None:
        raise HTTPException(409, "The job worked on no dataset: it has no outputs.")
    minutes = settings.load_finalize_minutes()
    wanted, is_new = Clearings(store).want(folder, ClearingKind.FINALIZED, by=caller.name, minutes=minutes)
    if is_new:
        facts = {"job": job.job_id, "until": wanted.due}
        note(caller, "monai.job.finalize", dag_id=job.dag_id, run_id=job.run_id, extra=facts)
    if not wanted.done and wanted.is_due(datetime.now(timezone.utc)):
        later.add_task(Clearings(store).clear, wanted)  # a gateway does it where this process dies before
    return Finalized(
        id=job.job_id,
        finalized_at=datetime.fromisoformat(wanted.at),
        until=datetime.fromisoformat(wanted.due),
    )


def _jobs(store: Store, caller: Caller, wanted: NewJob, request: str) -> list[WantedJob]:
    """What a request asks for.

    :raises HTTPException: when that cannot be.
    """
    try:
        payload = Datasets(store).ready(wanted.dataset)
        check_data(caller, store, payload.payload_id)
    except DatasetNotFound:
        raise HTTPException(404, "There is no such dataset, or it is not ready.") from None
    records = [_map(store, wanted.map)] if wanted.map else _associated(store, payload.payload_id)
    created = now_text()
    jobs = []
    for record in records:
        dag_id = dag_id_of_map(record)
        caller.check(Right.START_RUNS, dag_id)
        jobs.append(
            WantedJob(
                dag_id=dag_id,
                run_id=run_id_for(request, record.label, payload.payload_id, wanted.priority),
                payload_id=payload.payload_id,
                label=record.label,
                revision=record.revision,
                digest=record.digest,
                priority=wanted.priority.value,
                by=caller.name,
                created=created,
            )
        )
    return jobs


def _map(store: Store, label: str) -> RegisteredMap:
    record = MapRegistry(store).of_label(label)
    if record is None:
        raise HTTPException(404, "There is no such registered MAP: say name:version.")
    if not record.is_registered:
        raise HTTPException(409, f"The MAP {record.label} is not registered any more: no job can be run for it.")
    return record


def _associated(store: Store, dataset_id: str) -> list[RegisteredMap]:
    registry = MapRegistry(store)
    found = [registry.of_label(pair.map) for pair in Associations(store).of_dataset(dataset_id)]
    records = [record for record in found if record is not None and record.is_registered]
    if not records:
        raise HTTPException(409, "The dataset is associated with no registered MAP: name one.")
    if len(records) > MAX_JOBS:
        raise HTTPException(409, f"The dataset is associated with {len(records)} MAPs: at most {MAX_JOBS} at once.")
    return records


def _begin(store: Store, request: Request) -> bool:
    """Whether all of its jobs have begun; what has not is tried again, by a gateway or by whoever asks next, and
    always in the name of whoever wanted them."""
    if not JobRequests(store).is_open(request.id):
        return True
    return JobStarter(store, RunsHere(request.jobs[0].by), end_run).start(request)


def _try_again(job: FoundJob, store: Store, session: Session) -> FoundJob:
    if job.request is not None:
        _begin(store, job.request)
    session.rollback()  # see what that has made
    row = job_of(session, RunName(job.dag_id, job.run_id))
    return FoundJob(row, job.wanted, JobRequests(store).unstarted(job.job_id) if row is None else None)


def _cancel(job: FoundJob, caller: Caller, store: Store) -> bool:
    """Whether this caller cancelled it. Who was first has: a gateway that sees it through does so for them."""
    requests = JobRequests(store)
    if job.row is None and job.wanted is not None:
        noted: Unstarted | None = requests.cancel(job.wanted, caller.name)
    else:
        noted = requests.unstarted(job.job_id)
    by = noted.by if noted is not None and noted.cancelled else caller.name
    ended = False
    with suppress(LookupError):  # it has no run, and gets none
        ended = end_run(job.dag_id, job.run_id, cancelled_by=by)
    requests.close_cancelling(job.job_id)
    return by == caller.name and (ended or (job.row is None and noted is not None and noted.cancelled))
