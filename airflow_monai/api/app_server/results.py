"""What a job made: its result files, one by one or as a zip, and its application's log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated

from airflow.utils.session import create_session
from fastapi import APIRouter, BackgroundTasks, HTTPException, Path, Response

from airflow_monai.api.app_server.job_finding import find_job
from airflow_monai.api.app_server.job_models import ResultFile, ResultList
from airflow_monai.api.app_server.job_views import FoundJob, cleared_of
from airflow_monai.api.app_server.jobs import Limit, Offset
from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.downloads import send_object, send_zip
from airflow_monai.api.common.problems import responses
from airflow_monai.api.runs import site_store
from airflow_monai.jobs.clearing import ClearingKind, Clearings, newest_generation
from airflow_monai.maps.workflows import ARTIFACT, TASK
from airflow_monai.store.base import Store
from airflow_monai.store.payloads import payload_key
from airflow_monai.store.runs import RunFolder

router = APIRouter(prefix="/app-server/jobs/{job_id}", tags=["App Server: results"])
DICOM = "application/dicom"
ANY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Results:
    """The result files of a job, in the order in which they are counted.

    :param keys: of the store.
    """

    store: Store
    job: FoundJob
    top: str
    keys: tuple[str, ...]

    def name(self, key: str) -> str:
        return key.removeprefix(f"{self.top}/")


@router.get(
    "/results", summary="List the results", operation_id="list_results", responses=responses(400, 404, 409, 410)
)
def list_results(job_id: str, caller: TheCaller, limit: Limit = 1000, offset: Offset = 0) -> ResultList:
    """The files that the MAP made, with their numbers."""
    results = _results(job_id, caller)
    _note(caller, "monai.job.results.list", results.job, files=len(results.keys))
    sizes = {entry.key: entry.size for entry in results.store.entries(results.top)} if results.top else {}
    shown = list(enumerate(results.keys))[offset : offset + limit]
    files = [
        ResultFile(number=number, name=results.name(key), size=sizes[key]) for number, key in shown if key in sizes
    ]
    return ResultList(files=files, total=len(results.keys))


@router.get(
    "/results.zip",
    summary="Fetch all results",
    operation_id="fetch_results",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}}, **responses(404, 409, 410)},
)
def fetch_results(job_id: str, caller: TheCaller) -> Response:
    """All files as one zip archive, made while it is sent."""
    results = _results(job_id, caller)
    if not results.keys:
        raise HTTPException(404, "The job made no files.")
    _note(caller, "monai.job.results.read", results.job, files=len(results.keys))
    entries = ((results.name(key), results.store, key) for key in results.keys)
    return send_zip(entries, f"{results.job.job_id}.zip")


@router.get(
    "/results/{number}",
    summary="Fetch one result file",
    operation_id="fetch_result",
    response_class=Response,
    responses={200: {"content": {DICOM: {}, ANY: {}}}, **responses(400, 404, 409, 410)},
)
def fetch_result(job_id: str, number: Annotated[int, Path(ge=0, le=10_000_000)], caller: TheCaller) -> Response:
    """A file by its number in the list."""
    results = _results(job_id, caller)
    if number >= len(results.keys):
        raise HTTPException(404, "The job has no such result file.")
    key = results.keys[number]
    _note(caller, "monai.job.results.read", results.job, file=number)
    kind = DICOM if key.lower().endswith(".dcm") else ANY
    return send_object(results.store, key, media_type=kind, filename=key.rpartition("/")[2])


@router.delete(
    "/results",
    status_code=204,
    summary="Delete the results",
    operation_id="delete_results",
    responses=responses(404, 409),
)
def delete_results(job_id: str, caller: TheCaller, later: BackgroundTasks) -> None:
    """The files that a job made go at once and are answered 410; what it says of itself and its log stay."""
    store = site_store()
    with create_session() as session:
        job = find_job(job_id, caller, Right.CHANGE_RUNS, store, session)
    if not job.status.has_ended:
        raise HTTPException(409, f"The job has not ended yet: {job.status.value}.")
    folder = job.folder(store)
    if folder is None:
        return
    wanted, is_new = Clearings(store).want(folder, ClearingKind.DELETED, by=caller.name)
    if is_new:
        _note(caller, "monai.job.results.delete", job)
    if not wanted.done:
        later.add_task(Clearings(store).clear, wanted)  # a gateway does it where this process dies before


@router.get(
    "/logs",
    summary="Fetch the log",
    operation_id="fetch_job_log",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **responses(404, 410)},
)
def fetch_log(job_id: str, caller: TheCaller) -> Response:
    """All that the application printed. It may tell of the patient."""
    store = site_store()
    with create_session() as session:
        job = find_job(job_id, caller, Right.READ_DATA, store, session)
    folder = job.folder(store)
    if folder is not None:
        _check_there(store, job, folder, (ClearingKind.FINALIZED,))
        record = folder.record(TASK)
        key = folder.log_key(TASK, -1, record.generation if record else 1)
        if store.exists(key):
            _note(caller, "monai.job.log.read", job)
            return send_object(store, key, media_type="text/plain; charset=utf-8", filename="log.txt", inline=True)
    raise HTTPException(404, "The store holds no log of this job.")


def _results(job_id: str, caller: Caller) -> Results:
    """What the caller may read of a job's results.

    :raises HTTPException: 404, 403; 409 while there are none yet, 410 when they are gone.
    """
    store = site_store()
    with create_session() as session:
        job = find_job(job_id, caller, Right.READ_DATA, store, session)
    folder = job.folder(store)
    if folder is None:
        return Results(store, job, "", ())
    _check_there(store, job, folder, tuple(ClearingKind))
    record = folder.record(TASK)
    is_there = record is not None and record.output_dir is not None and record.generation == newest_generation(folder)
    if not is_there and not job.status.has_ended:
        raise HTTPException(409, f"The job has no results yet: {job.status.value}.")
    if record is None or record.output_dir is None:
        return Results(store, job, "", ())
    top = payload_key(folder.payload_id)
    keys = tuple(key for key in record.artifacts.get(ARTIFACT, ()) if key.startswith(f"{top}/"))
    return Results(store, job, record.output_dir, keys)


def _check_there(store: Store, job: FoundJob, folder: RunFolder, kinds: tuple[ClearingKind, ...]) -> None:
    """:raises HTTPException: 410 where the outputs have been deleted, or should be by now."""
    now = datetime.now(timezone.utc)
    cleared = [item for item in cleared_of(store, job, folder) if item.kind in kinds and item.is_due(now)]
    if cleared:
        why = "was finalized" if any(item.kind is ClearingKind.FINALIZED for item in cleared) else "had them deleted"
        raise HTTPException(410, f"The outputs of this job are gone: it {why}.")
    if not store.exists(f"{payload_key(folder.payload_id)}/payload.json") and job.row is not None:
        raise HTTPException(410, "The outputs of this job are gone, with the dataset that it worked on.")


def _note(caller: Caller, event: str, job: FoundJob, **facts: int) -> None:
    note(caller, event, dag_id=job.dag_id, run_id=job.run_id, extra={"job": job.job_id, **facts})
