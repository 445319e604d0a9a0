"""Payloads: what came in, as a list, one by one, as a download; and having one deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.downloads import send_zip
from airflow_monai.api.common.problems import responses
from airflow_monai.api.instances.runs import Run, visible_dags, working_on
from airflow_monai.api.runs import site_store
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.api.workflow_manager.executions import in_parallel, workflows_of
from airflow_monai.api.workflow_manager.paging import Page, ThePaging
from airflow_monai.api.workflow_manager.rows import our_dags, payloads_of, runs_on
from airflow_monai.errors import DamagedObject, PayloadNotFound
from airflow_monai.jobs.waiting import waiting_on
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.deletion import DeletionState, NotDeletable, deletion_of, request_deletion
from airflow_monai.store.payloads import load_payload, payload_key
from airflow_monai.store.requests import request_of
from airflow_monai.store.summaries import PatientFilter, PayloadIndex, Summary, read_summary
from airflow_monai.types import PayloadFile

MAX_PART = 64
MAX_PAGE = 100
MOST_LISTED = 50
"""So many instances a list shows of a payload and a workflow; one payload alone shows more."""
_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"

router = APIRouter(prefix=PREFIX, tags=["Workflow Manager: payloads"])

Part = Annotated[
    str,
    Query(max_length=MAX_PART, description="A part of it, whatever its case. No pattern: every character is itself."),
]


class PatientDetails(BaseModel):
    patient_id: str | None = None
    patient_name: str | None = None
    patient_sex: str | None = None
    patient_dob: str | None = Field(None, examples=["19700101"])
    patient_age: str | None = None
    patient_hospital_id: str | None = None


class DataTrigger(BaseModel):
    """By whom the images were sent, and to whom."""

    dataService: str = "DIMSE"
    source: str = Field(examples=["CT01"])
    destination: str = Field(examples=["CTLUNG"])
    artifactType: str = "Unset"


class PayloadDeletion(BaseModel):
    """Who wanted the payload gone, and how far that is."""

    requested: str
    by: str
    reason: str = ""
    deleted: str = ""
    error: str = ""


class PayloadInfo(BaseModel):
    """Received images that belong together. Who may not read data is not told of the patient."""

    Version: str = "1.0.0"
    id: str = Field(examples=[_ID])
    payload_id: str = Field(examples=[_ID])
    accession_id: str | None = None
    workflows: list[str] = Field([], description="Ids of the workflows that it has instances of.")
    triggered_workflow_names: list[str] = []
    workflow_instance_ids: list[str] = []
    file_count: int
    correlation_id: str = ""
    bucket: str = "monai"
    timestamp: datetime | None = Field(None, description="When it was complete; of an open one, when it was begun.")
    payload_status: str = Field(examples=["Complete"], description="InProgress or Complete.")
    payload_deleted: DeletionState
    deletion: PayloadDeletion | None = None
    patient_details: PatientDetails | None = None
    files: list[dict[str, str]] | None = None
    """Of a single payload only."""
    DataTrigger: DataTrigger
    expires: datetime | None = None
    series_instance_uid: str | None = None


class _Sight:
    """What a caller may see of payloads: those of the workflows that the caller may see, or all."""

    def __init__(self, caller: Caller, session: Session):
        self._session = session
        self._dags = visible_dags(caller, Right.SEE_RUNS, session)
        self._readable = visible_dags(caller, Right.READ_DATA, session)

    @property
    def reads_nothing(self) -> bool:
        return self._readable is not None and not self._readable

    def visible(self) -> set[str] | None:
        """Ids of payloads; None for all."""
        return None if self._dags is None else payloads_of(self._session, self._dags)

    def readable(self) -> set[str] | None:
        """Likewise, of those whose patients the caller may know."""
        return None if self._readable is None else payloads_of(self._session, self._readable)

    def may_see(self, runs: Sequence[Run]) -> bool:
        return self._dags is None or any(run.dag_id in self._dags for run in runs)

    def may_read(self, runs: Sequence[Run]) -> bool:
        return self._readable is None or any(run.dag_id in self._readable for run in runs)

    def of_runs(self, runs: Iterable[Run]) -> list[Run]:
        return [run for run in runs if self._dags is None or run.dag_id in self._dags]


@lru_cache(maxsize=4)
def _index(url: str) -> PayloadIndex:
    from airflow_monai.store import open_store

    return PayloadIndex(open_store(url))


@router.get("/payload", responses=responses(400))
@router.get("/payloads", responses=responses(400), include_in_schema=False)
def list_payloads(
    caller: TheCaller,
    paging: ThePaging,
    patient_id: Annotated[Part, Query(alias="patientId")] = "",
    patient_name: Annotated[Part, Query(alias="patientName")] = "",
    accession_id: Annotated[Part, Query(alias="accessionId")] = "",
) -> Page[PayloadInfo]:
    """The payloads that the caller may see: open ones, then the newest first."""
    paging = paging.at_most(MAX_PAGE)
    wanted = PatientFilter(patient_id, patient_name, accession_id)
    store = site_store()
    with create_session() as session:
        sight = _Sight(caller, session)
        if not wanted.is_empty and sight.reads_nothing:
            raise HTTPException(403, "You have no right to read patient data here, and so not to search by it.")
        found, total = _page(_index(store.url), paging, wanted, sight)
        ids = [item.payload_id for item in found]
        runs = _by_payload(runs_on(session, ids, our_dags(session), MOST_LISTED))
        told = _told(store, found, runs, sight)
    _note(caller, "monai.payload.list", [info for info in told if info.patient_details is not None])
    return paging.page(told, total)


@router.get("/payload/{payload_id}", responses=responses(400, 404))
@router.get("/payloads/{payload_id}", responses=responses(400, 404), include_in_schema=False)
def one_payload(caller: TheCaller, payload_id: UUID) -> PayloadInfo:
    """One payload. Of one that was deleted it is told who wanted that, and what ran on it."""
    store = site_store()
    with create_session() as session:
        sight = _Sight(caller, session)
        summary, runs = _the_payload(store, session, sight, str(payload_id))
        may_read = sight.may_read(runs)
        files = _files(store, summary) if may_read else None
        if may_read and files is None:  # a gateway has begun to delete it since
            summary, runs = _the_payload(store, session, sight, str(payload_id))
        (told,) = _told(store, [summary], {summary.payload_id: runs}, sight)
    if files is not None and not (summary.is_open or summary.is_deleted):
        top = payload_key(summary.payload_id)
        told.files = [{"path": f"{top}/{file.path}", "series_instance_uid": file.series_instance_uid} for file in files]
    if may_read and not summary.is_deleted:
        _note(caller, "monai.payload.read", [told])
    return told


@router.get("/payload/{payload_id}/download", responses=responses(400, 404), response_class=Response)
@router.get("/payloads/{payload_id}/download", responses=responses(400, 404), include_in_schema=False)
def download_payload(caller: TheCaller, payload_id: UUID) -> Response:
    """The images of a payload as a zip archive."""
    store = site_store()
    with create_session() as session:
        sight = _Sight(caller, session)
        summary, runs = _the_payload(store, session, sight, str(payload_id))
        if not sight.may_read(runs):
            raise HTTPException(403, "You have no right to read data of this payload.")
    if summary.is_open or summary.is_deleted:
        raise HTTPException(404, "The payload is still open." if summary.is_open else "The payload was deleted.")
    payload = load_payload(store, summary.payload_id)
    note(caller, "monai.payload.download", extra={"payload": payload.payload_id, "files": len(payload.files)})
    top = payload_key(payload.payload_id)
    entries = ((file.path, store, f"{top}/{file.path}") for file in payload.files)
    return send_zip(entries, f"{payload.payload_id}.zip")


@router.delete("/payload/{payload_id}", status_code=202, responses=responses(400, 404))
@router.delete("/payloads/{payload_id}", status_code=202, responses=responses(400, 404), include_in_schema=False)
def delete_payload(
    caller: TheCaller,
    payload_id: UUID,
    reason: Annotated[str, Query(max_length=200, description="Kept with what is left of it; name no patient.")] = "",
) -> bool:
    """Have a payload deleted, with its images and results. A gateway does so some seconds later, and goes on with it
    whatever happens; ``payload_deleted`` tells how far it is.
    """
    store = site_store()
    with create_session() as session:
        sight = _Sight(caller, session)
        summary, _ = _the_payload(store, session, sight, str(payload_id))
        every = runs_on(session, [summary.payload_id])
        working = working_on(session, summary.payload_id)
    for dag_id in {run.dag_id for run in every}:
        caller.check(Right.CHANGE_RUNS, dag_id)
    if not every:
        caller.check(Right.CHANGE_RUNS)
    if working:
        raise HTTPException(400, "Workflow instances are still working on this payload.")
    if waiting_on(store, summary.payload_id):
        raise HTTPException(400, "Jobs or runs that somebody has asked for wait for their turn on this payload.")
    try:
        request_deletion(store, summary.payload_id, caller.name, reason)
    except NotDeletable as error:
        raise HTTPException(400, str(error)) from None
    note(caller, "monai.payload.delete", extra={"payload": summary.payload_id})
    return True


def _page(index: PayloadIndex, paging: ThePaging, wanted: PatientFilter, sight: _Sight) -> tuple[list[Summary], int]:
    """The page's payloads, and how many there are on all pages."""
    visible = sight.visible()
    readable = None if wanted.is_empty else sight.readable()

    def takes(summary: Summary) -> bool:
        if visible is not None and summary.payload_id not in visible:
            return False
        return wanted.is_empty or (
            (readable is None or summary.payload_id in readable) and not summary.is_open and wanted.takes(summary)
        )

    found = index.find(takes)
    cut = index.now(paging.cut(found))
    if not all(takes(summary) for summary in cut):  # one was deleted since it was read
        found = index.find(takes)
        cut = [summary for summary in index.now(paging.cut(found)) if takes(summary)]
    return cut, len(found)


def _the_payload(store: Store, session: Session, sight: _Sight, payload_id: str) -> tuple[Summary, list[Run]]:
    """A payload and the instances on it.

    :raises HTTPException: 404 where there is none that the caller may know of.
    """
    runs = runs_on(session, [payload_id], our_dags(session))
    summary = read_summary(store, payload_id) if sight.may_see(runs) else None
    if summary is None:
        raise HTTPException(404, f"There is no payload {payload_id!r}.")
    return summary, runs


def _files(store: Store, summary: Summary) -> Sequence[PayloadFile] | None:
    """The files of a closed payload, none of another; None where its manifest went since the summary was read."""
    if summary.is_open or summary.is_deleted:
        return ()
    try:
        return load_payload(store, summary.payload_id).files
    except PayloadNotFound:
        return None


def check_seen(caller: Caller, payload_id: str) -> None:
    """:raises HTTPException: 404 where there is no payload that the caller may know of."""
    with create_session() as session:
        _the_payload(site_store(), session, _Sight(caller, session), payload_id)


def _by_payload(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.payload_id, []).append(run)
    return found


def _told(
    store: Store, summaries: Sequence[Summary], runs: Mapping[str, Sequence[Run]], sight: _Sight
) -> list[PayloadInfo]:
    seen = {item.payload_id: sight.of_runs(runs.get(item.payload_id, ())) for item in summaries}
    workflows = workflows_of({run.dag_id for some in seen.values() for run in some})
    kept = dict(
        zip([item.payload_id for item in summaries], in_parallel(store, _Kept.of(store), summaries), strict=True)
    )

    def tell(summary: Summary) -> PayloadInfo:
        mine = seen[summary.payload_id]
        dag_ids = list(dict.fromkeys(run.dag_id for run in mine))
        may_read = sight.may_read(runs.get(summary.payload_id, ())) and not (summary.is_open or summary.is_deleted)
        more = kept[summary.payload_id]
        is_working = more.is_pending or any(not run.has_ended for run in runs.get(summary.payload_id, ()))
        return PayloadInfo(
            id=summary.payload_id,
            payload_id=summary.payload_id,
            accession_id=summary.accession_number if may_read else None,
            workflows=[workflows[dag_id].id for dag_id in dag_ids],
            triggered_workflow_names=[workflows[dag_id].name for dag_id in dag_ids],
            workflow_instance_ids=[run.instance_id for run in mine],
            file_count=summary.images,
            correlation_id=more.correlation_id,
            timestamp=datetime.fromisoformat(summary.moment) if summary.moment else None,
            payload_status="InProgress" if is_working else "Complete",
            payload_deleted=more.deletion.state,
            deletion=_deletion(more.deletion),
            patient_details=_patient(summary) if may_read else None,
            DataTrigger=DataTrigger(source=",".join(summary.calling_aets), destination=summary.called_aet),
            series_instance_uid=summary.series[0] if len(summary.series) == 1 and may_read else None,
        )

    return [tell(summary) for summary in summaries]


class _Kept:
    """What the store says of a payload beside its summary."""

    def __init__(self, store: Store, payload_id: str):
        try:
            request = request_of(store, payload_id)
        except DamagedObject as error:
            tell_once(str(error))
            request = None
        self.correlation_id = request.correlation_id if request else ""
        self.deletion = deletion_of(store, payload_id)
        self.is_pending = store.exists(f"pending/{payload_id}")

    @staticmethod
    def of(store: Store) -> Any:
        return lambda summary: _Kept(store, summary.payload_id)


def _deletion(deletion: Any) -> PayloadDeletion | None:
    if deletion.state is DeletionState.NO:
        return None
    return PayloadDeletion(
        requested=deletion.requested,
        by=deletion.by,
        reason=deletion.reason,
        deleted=deletion.deleted,
        # what the store says may name folders of the site
        error="It could not be done yet, and is tried again." if deletion.error else "",
    )


def _patient(summary: Summary) -> PatientDetails:
    patient = summary.patient
    return PatientDetails(
        patient_id=patient.id,
        patient_name=patient.name,
        patient_sex=patient.sex,
        patient_dob=patient.dob,
        patient_age=patient.age,
        patient_hospital_id=patient.hospital_id,
    )


def _note(caller: Caller, event: str, read: Sequence[PayloadInfo]) -> None:
    """Of whom somebody read."""
    for start in range(0, len(read), 100):
        note(caller, event, extra={"payloads": [info.payload_id for info in read[start : start + 100]]})
