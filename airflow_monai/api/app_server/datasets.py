"""Datasets: upload, list, describe, download, delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from airflow.utils.session import create_session
from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from airflow_monai.api.common.access import Caller, Right, TheCaller, needs
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.downloads import send_object, send_zip
from airflow_monai.api.common.limits import takes_upload
from airflow_monai.api.common.multipart import boundary_of, parts
from airflow_monai.api.common.problems import responses
from airflow_monai.api.common.uploads import Body, UploadSite, upload_site
from airflow_monai.api.instances.runs import working_on
from airflow_monai.api.runs import site_store
from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.datasets.model import Dataset, DatasetNotFound, NotUploaded, State, dataset_files
from airflow_monai.datasets.receiving import NewFiles, Taken, Upload, UploadRefused, Why
from airflow_monai.jobs.waiting import waiting_on
from airflow_monai.store.base import Store
from airflow_monai.store.payloads import payload_key
from airflow_monai.types import Payload

router = APIRouter(prefix="/app-server", tags=["App Server: datasets"])

_RAW = frozenset({"application/dicom", "application/octet-stream", "binary/octet-stream"})
_ZIP = frozenset({"application/zip", "application/x-zip-compressed", "application/x-zip"})
_FORM = frozenset({"multipart/form-data", "multipart/mixed"})
_MORE_PARTS = 100  # fields beside the files
_EXAMPLE: dict[str, Any] = {
    "id": "0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11",
    "name": "ct-phantom",
    "state": "ready",
    "created": "2026-03-01T09:30:00.000+00:00",
    "created_by": "anna",
    "source": "upload",
    "files": 3,
    "size": 1578090,
    "series": 1,
    "studies": ["2.25.329800735698586629295641978511506172918"],
}


class DatasetAnswer(BaseModel):
    """A dataset."""

    model_config = {"json_schema_extra": {"examples": [_EXAMPLE]}}

    id: str = Field(description="A UUID; workflows know the dataset as the payload of this id.")
    name: str
    state: State = Field(description="`receiving` while its files are put into the store, then `ready`.")
    created: str
    created_by: str
    source: str = Field(description="`upload`, `stow`, or `received` for a study that was received for workflows.")
    files: int
    size: int = Field(description="Bytes of all files.")
    series: int = Field(description="How many there are.")
    studies: list[str] = Field(description="Study Instance UIDs.")

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetAnswer:
        return cls(**dataset.to_dict())


class Patient(BaseModel):
    """What the images say of the patient."""

    id: str | None = None
    name: str | None = None
    sex: str | None = None
    dob: str | None = None
    age: str | None = None
    hospital_id: str | None = None


class DescribedDataset(DatasetAnswer):
    """A dataset, with the patient where that was asked for."""

    patient: Patient | None = None


class RefusedFile(BaseModel):
    """A file that was not taken."""

    name: str = Field(examples=["study/7.dcm"])
    reason: str = Field(examples=["it breaks off: its last whole element ends at byte 1480 of 1500"])


class UploadAnswer(DatasetAnswer):
    """What became of an upload."""

    model_config = {
        "json_schema_extra": {
            "examples": [{**_EXAMPLE, "created_now": True, "refused": [], "passed_over": ["archive/DICOMDIR"]}]
        }
    }

    created_now: bool = Field(description="False: a dataset of just these files was there.")
    refused: list[RefusedFile] = Field(description="With `partial=true`: files that are not in the dataset.")
    passed_over: list[str] = Field(description="Files of archives that are no images.")


class DatasetPage(BaseModel):
    """Datasets, the newest first."""

    datasets: list[DatasetAnswer]
    total: int
    offset: int
    limit: int


class DatasetFile(BaseModel):
    """An image of a dataset."""

    sop_instance_uid: str = Field(examples=["2.25.329800735698586629295641978511506172918.1.1"])
    sop_class_uid: str = Field(examples=["1.2.840.10008.5.1.4.1.1.2"])
    series_instance_uid: str = Field(examples=["2.25.329800735698586629295641978511506172918.1"])
    study_instance_uid: str = Field(examples=["2.25.329800735698586629295641978511506172918"])
    transfer_syntax_uid: str = Field(examples=["1.2.840.10008.1.2.1"])
    size: int = Field(examples=[526030])


class FilePage(BaseModel):
    """Images of a dataset, by study, series and SOP Instance UID."""

    files: list[DatasetFile]
    total: int
    offset: int
    limit: int


Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Limit = Annotated[int, Query(ge=1, le=1000)]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One DICOM file, a zip archive of some, or a form with several of either.",
        "content": {
            "application/dicom": _BINARY,
            "application/octet-stream": _BINARY,
            "application/zip": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            },
        },
    }
}


@router.post(
    "/datasets",
    status_code=201,
    response_model=UploadAnswer,
    responses={
        200: {"model": UploadAnswer, "description": "A dataset of just these files was there."},
        **responses(400, 408, 409, 413, 415, 503, 507),
    },
    openapi_extra=UPLOAD_BODY,
    dependencies=[needs(Right.START_RUNS)],
)
@takes_upload
async def upload_dataset(
    request: Request,
    response: Response,
    caller: TheCaller,
    name: Annotated[str, Query(max_length=200, description="For people.")] = "",
    partial: Annotated[bool, Query(description="Take the good files, and say which were refused.")] = False,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> UploadAnswer:
    """Upload a dataset.

    The same files are one dataset, however often they are uploaded. An upload that is cut leaves nothing.
    """
    site = await run_in_threadpool(upload_site)
    datasets = Datasets(site.store)
    key = f"{caller.name}\0{idempotency_key}" if idempotency_key else ""
    length = request.headers.get("content-length", "")
    if key and (known := await run_in_threadpool(datasets.made_under, key)):
        made, noted = known
        if "" not in (length, noted.get("length", "")) and noted["length"] != length:
            raise HTTPException(409, "This Idempotency-Key was used for another upload: use a new one.")
        response.status_code, response.headers["Location"] = 200, _location(request, made)
        return UploadAnswer(**made.to_dict(), created_now=False, refused=[], passed_over=[])
    kind = upload_kind(request)

    def work(body: Body) -> UploadAnswer:
        site.sweep_now_and_then(datasets.sweep)
        new = NewFiles()
        with Upload(site.spool, site.options.limits, new.keep, site.check, whole=not partial) as upload:
            told = take_all(body, upload, kind, request.headers.get("content-type", ""), site)
            taken = upload.finish()
            check_any(taken, upload.passed_over_count)
            made, created = datasets.make(new.all(), name=name or told[:200], by=caller.name, source="upload")
            if key:
                datasets.note_key(key, made.id, {"length": length})
            _noted(caller, "monai.dataset.upload", made, created)
            refused = [RefusedFile(name=item.name, reason=item.reason) for item in taken if item.reason]
            return UploadAnswer(**made.to_dict(), created_now=created, refused=refused, passed_over=upload.passed_over)

    answer = await site.receive(request, caller.name, work)
    response.status_code = 201 if answer.created_now else 200
    response.headers["Location"] = f"{request.url.path.rstrip('/')}/{answer.id}"
    return answer


def upload_kind(request: Request) -> str:
    """The media type of an upload; 415 for one that is not taken."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _RAW or kind in _ZIP or kind in _FORM:
        return kind
    raise HTTPException(
        415,
        "Send one DICOM file as application/dicom, a zip archive as application/zip, or several of them as "
        "multipart/form-data.",
    )


def take_all(body: Body, upload: Upload[Any], kind: str, content_type: str, site: UploadSite) -> str:
    """Take all that comes; the name that a form gives."""
    if kind in _ZIP:
        upload.archive(body, "archive")
        return ""
    if kind in _RAW:
        upload.take(body, "file")
        return ""
    name = ""
    most = site.options.limits.max_files + _MORE_PARTS
    for number, part in enumerate(parts(body, boundary_of(content_type), most), 1):
        if part.filename or part.content_type in _RAW or part.content_type in _ZIP:
            upload.take(part, part.filename or f"part {number}")
        elif part.field == "name":
            name = part.text().strip()
        else:
            part.text()  # a field that nobody needs
    return name


def check_any(taken: list[Taken[Any]], passed_over: int) -> None:
    """:raises UploadRefused: when no image was taken."""
    if any(not item.reason for item in taken):
        return
    refused = tuple((item.name, item.reason) for item in taken[:100])
    others = f" {passed_over} files in it are no DICOM files." if passed_over else ""
    raise UploadRefused(Why.INVALID, f"There is no DICOM image in the upload.{others}", refused)


def _location(request: Request, dataset: Dataset) -> str:
    return f"{request.url.path.rstrip('/')}/{dataset.id}"


def _noted(caller: Caller, event: str, dataset: Dataset, created: bool) -> None:
    note(caller, event, extra={"dataset": dataset.id, "files": dataset.files, "size": dataset.size, "new": created})


@router.get("/datasets", dependencies=[needs(Right.SEE_RUNS)], responses=responses(400))
def list_datasets(offset: Offset = 0, limit: Limit = 100) -> DatasetPage:
    """The datasets that were uploaded, the newest first."""
    page = Datasets(site_store()).page(offset, limit)
    shown = [DatasetAnswer.of(dataset) for dataset in page.datasets]
    return DatasetPage(datasets=shown, total=page.total, offset=offset, limit=limit)


@router.get("/datasets/{dataset_id}", dependencies=[needs(Right.SEE_RUNS)], responses=responses(400, 404))
def describe_dataset(
    dataset_id: str,
    caller: TheCaller,
    patient: Annotated[bool, Query(description="Tell of the patient too, which is noted in the audit log.")] = False,
) -> DescribedDataset:
    """A dataset; also any study that was received, by the id of its payload."""
    store = site_store()
    found = find_dataset(store, dataset_id)
    told = None
    if patient:
        caller.check(Right.READ_DATA)
        payload = ready_payload(store, found.id)
        told = Patient(**{name: getattr(payload.patient, name) for name in Patient.model_fields})
        note(caller, "monai.dataset.patient", extra={"dataset": found.id})
    return DescribedDataset(**found.to_dict(), patient=told)


@router.get("/datasets/{dataset_id}/files", dependencies=[needs(Right.READ_DATA)], responses=responses(400, 404))
def list_files(dataset_id: str, caller: TheCaller, offset: Offset = 0, limit: Limit = 100) -> FilePage:
    """The images of a dataset."""
    payload = ready_payload(site_store(), dataset_id)
    note(caller, "monai.dataset.files", extra={"dataset": payload.payload_id})
    files = [DatasetFile(**item) for item in dataset_files(payload, offset, limit)]
    return FilePage(files=files, total=len(payload.files), offset=offset, limit=limit)


@router.get(
    "/datasets/{dataset_id}/files/{sop_instance_uid}",
    dependencies=[needs(Right.READ_DATA)],
    response_class=Response,
    responses={200: {"content": {"application/dicom": _BINARY}}, **responses(404)},
)
def download_file(dataset_id: str, sop_instance_uid: str, caller: TheCaller) -> Response:
    """One image, by its SOP Instance UID."""
    store = site_store()
    payload = ready_payload(store, dataset_id)
    found = next((file for file in payload.files if file.sop_instance_uid == sop_instance_uid), None)
    if found is None:
        raise HTTPException(404, "The dataset has no image of this SOP Instance UID.")
    note(caller, "monai.dataset.download", extra={"dataset": payload.payload_id, "files": 1})
    key = payload_key(payload.payload_id, found.path)
    return send_object(store, key, media_type="application/dicom", filename=f"{sop_instance_uid}.dcm")


@router.get(
    "/datasets/{dataset_id}/content",
    dependencies=[needs(Right.READ_DATA)],
    response_class=Response,
    responses={200: {"content": {"application/zip": _BINARY}}, **responses(404)},
)
def download_dataset(dataset_id: str, caller: TheCaller) -> Response:
    """All images as one zip archive: `<study>/<series>/<SOP Instance UID>.dcm`."""
    store = site_store()
    payload = ready_payload(store, dataset_id)
    note(caller, "monai.dataset.download", extra={"dataset": payload.payload_id, "files": len(payload.files)})
    return send_zip(_entries(store, payload), f"dataset-{payload.payload_id}.zip")


def _entries(store: Store, payload: Payload) -> Iterator[tuple[str, Store, str]]:
    for file in payload.files:
        yield file.path.removeprefix("dcm/"), store, payload_key(payload.payload_id, file.path)


@router.delete(
    "/datasets/{dataset_id}",
    status_code=204,
    dependencies=[needs(Right.CHANGE_RUNS)],
    responses=responses(404, 409),
)
def delete_dataset(
    dataset_id: str,
    caller: TheCaller,
    with_results: Annotated[bool, Query(description="Also when jobs have left results, which go too.")] = False,
) -> None:
    """Delete a dataset and its associations. What its jobs were stays known."""
    datasets = Datasets(site_store())
    found = find_dataset(datasets.store, dataset_id)
    if running := jobs_on(datasets.store, found.id):
        raise HTTPException(
            409, f"{running} job{'s are' if running > 1 else ' is'} at work on this dataset: cancel or await what runs."
        )
    if datasets.has_results(found.id) and not with_results:
        raise HTTPException(409, "Jobs have left results of this dataset: say with_results=true to delete them too.")
    try:
        datasets.delete(found.id, caller.name)
    except NotUploaded as error:
        raise HTTPException(409, str(error)) from None
    except DatasetNotFound:
        raise _no_dataset() from None
    note(caller, "monai.dataset.delete", extra={"dataset": found.id, "with_results": with_results})


def jobs_on(store: Store, dataset_id: str) -> int:
    """How many runs are queued or at work on a dataset, or will be because somebody has asked for them."""
    with create_session() as session:
        running = working_on(session, dataset_id)
    return running or waiting_on(store, dataset_id)


def find_dataset(store: Store, dataset_id: str) -> Dataset:
    """A dataset; HTTP 404 where there is none."""
    try:
        return Datasets(store).find(dataset_id)
    except DatasetNotFound:
        raise _no_dataset() from None


def ready_payload(store: Store, dataset_id: str) -> Payload:
    """The payload of a dataset; HTTP 404 where there is none, or its files are not all in the store yet."""
    try:
        return Datasets(store).ready(dataset_id)
    except DatasetNotFound:
        raise _no_dataset() from None


def _no_dataset() -> HTTPException:
    return HTTPException(404, "There is no such dataset.")
