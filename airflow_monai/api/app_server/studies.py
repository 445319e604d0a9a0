"""DICOMweb Store, STOW-RS (PS3.18 section 10.5): studies become datasets, or arrive at an AE title."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from python_multipart.multipart import parse_options_header

from airflow_monai.api.common.access import Caller, Right, TheCaller, needs
from airflow_monai.api.common.arrivals import DIFFERS, Arrival, Complete, Origin, grouping_at
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.limits import takes_upload
from airflow_monai.api.common.multipart import BadMultipart, boundary_of, parts
from airflow_monai.api.common.problems import responses
from airflow_monai.api.common.uploads import Body, UploadSite, upload_site
from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.datasets.receiving import TWICE, NewFiles, Taken, Upload
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.foreign import Found
from airflow_monai.store.part10 import NotIdentified, check_uid
from airflow_monai.store.spooling import Spooled

router = APIRouter(prefix="/app-server", tags=["App Server: DICOMweb"])

DICOM_JSON = "application/dicom+json"
ORIGIN = "STOW-RS"
CANNOT_UNDERSTAND, OTHER_STUDY, ANOTHER_IMAGE = 0xC000, 0xA900, 0x0110
"""Failure Reason (0008,1197), PS3.18 section I.2.2 with PS3.4 annex B: what cannot be read, what does not match where
it was sent to, what could not be processed."""
_SOP_CLASS, _SOP_INSTANCE = "00081150", "00081155"
_FAILED, _OTHERS, _STORED, _REASON, _URL = "00081198", "0008119A", "00081199", "00081197", "00081190"
_OF_ANOTHER_STUDY = "it is of another study than the one that it was sent to"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "DICOM files (PS3.10), each a part of type application/dicom.",
        "content": {
            'multipart/related; type="application/dicom"': {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "All is stored.", "content": {DICOM_JSON: {"schema": {"type": "object"}}}},
    202: {"description": "Some is stored; the answer says what is not.", "content": {DICOM_JSON: {}}},
    **responses(400, 404, 406, 408, 413, 415, 503, 507),
    409: {"description": "Nothing is stored; the answer says why.", "content": {DICOM_JSON: {}}},
}
AeTitle = Annotated[
    str, Query(max_length=16, description="Let the studies arrive here, as if they had been sent by C-STORE.")
]


@router.post(
    "/studies",
    response_class=Response,
    responses=_ANSWERS,
    openapi_extra=_BODY,
    dependencies=[needs(Right.START_RUNS)],
)
@takes_upload
async def store_instances(
    request: Request,
    caller: TheCaller,
    ae_title: AeTitle = "",
    origin: Origin = ORIGIN,
    complete: Complete = False,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """Store instances of any studies. Each study becomes a dataset, or arrives at an AE title."""
    return await _store(request, caller, _Wish(ae_title, origin, complete), accept)


@router.post(
    "/studies/{study_instance_uid}",
    response_class=Response,
    responses=_ANSWERS,
    openapi_extra=_BODY,
    dependencies=[needs(Right.START_RUNS)],
)
@takes_upload
async def store_study(
    study_instance_uid: Annotated[str, InPath(max_length=64)],
    request: Request,
    caller: TheCaller,
    ae_title: AeTitle = "",
    origin: Origin = ORIGIN,
    complete: Complete = False,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """The same for instances of one study; those of others are refused."""
    try:
        check_uid(study_instance_uid, "The study in the address")
    except NotIdentified as error:
        raise HTTPException(400, f"{error}.") from None
    return await _store(request, caller, _Wish(ae_title, origin, complete, study_instance_uid), accept)


class _Wish:
    """What is to become of the instances.

    :param study: the only one that they may be of; empty for any.
    """

    def __init__(self, ae_title: str, origin: str, complete: bool, study: str = ""):
        self.ae_title = ae_title.strip(" ")
        self.origin = origin
        self.complete = complete
        self.study = study

    def problem(self, found: Found) -> str:
        return _OF_ANOTHER_STUDY if self.study and found.identity.study != self.study else ""


async def _store(request: Request, caller: Caller, wish: _Wish, accept: str) -> Response:
    _check_accept(accept)
    content_type = request.headers.get("content-type", "")
    _check_type(content_type)
    site = await run_in_threadpool(upload_site)
    grouping = await run_in_threadpool(grouping_at, site, wish.ae_title) if wish.ae_title else None

    def work(body: Body) -> Response:
        site.sweep_now_and_then(Datasets(site.store).sweep)
        if grouping is None:
            return _as_datasets(body, content_type, site, caller, wish, request.scope.get("root_path", ""))
        return _as_arrival(body, content_type, site, caller, wish, grouping)

    return await site.receive(request, caller.name, work)


def _as_datasets(body: Body, content_type: str, site: UploadSite, caller: Caller, wish: _Wish, root: str) -> Response:
    new, datasets = NewFiles(), Datasets(site.store)

    def keep(spooled: Spooled) -> Any:
        return wish.problem(spooled.found) or new.keep(spooled)

    with Upload(site.spool, site.options.limits, keep, site.check, whole=False) as upload:
        _take(body, content_type, upload, site)
        taken = upload.finish()
        made = [datasets.make(files, name="", by=caller.name, source="stow")[0] for _, files in new.by_study()]
    for dataset in made:
        note(caller, "monai.dataset.upload", extra={"dataset": dataset.id, "files": dataset.files, "way": "stow"})
    ids = ", ".join(dataset.id for dataset in made)
    of_study = {study: dataset.id for dataset in made for study in dataset.studies}

    def url(found: Found) -> str:
        dataset_id = of_study.get(found.identity.study, "")
        return f"{root}/app-server/datasets/{dataset_id}/files/{found.identity.sop}" if dataset_id else ""

    return _answer(taken, {"Monai-Datasets": ids} if ids else {}, url)


def _as_arrival(
    body: Body, content_type: str, site: UploadSite, caller: Caller, wish: _Wish, grouping: Grouping
) -> Response:
    arrival = Arrival(site, wish.ae_title, wish.origin, grouping, wish.problem)
    with Upload(site.spool, site.options.limits, arrival.keep, arrival.check, whole=False) as upload:
        try:
            _take(body, content_type, upload, site)
        finally:
            taken = upload.finish()
            arrival.taken(taken, caller)
    if wish.complete:
        arrival.tell_whole()
    payloads = ", ".join(arrival.payload_ids)
    return _answer(taken, {"Monai-Payloads": payloads} if payloads else {})


def _take(body: Body, content_type: str, upload: Upload[Any], site: UploadSite) -> None:
    if content_type.partition(";")[0].strip().lower() == "application/dicom":
        upload.single(body, "body")
        return
    number = 0
    for number, part in enumerate(parts(body, boundary_of(content_type), site.options.limits.max_files), 1):
        if part.content_type in ("application/dicom", ""):  # RFC 2387: the type that the request names
            upload.single(part, f"part {number}")
        else:
            upload.refuse(f"part {number}", "it is not of type application/dicom")


def _check_type(content_type: str) -> None:
    kind, options = parse_options_header(content_type)
    inner = options.get(b"type", b"application/dicom").lower()
    if kind.lower() == b"application/dicom":
        return
    if kind.lower() != b"multipart/related" or inner != b"application/dicom":
        raise HTTPException(415, 'Send multipart/related; type="application/dicom". Metadata apart is not taken.')
    try:
        boundary_of(content_type)
    except BadMultipart as error:
        raise HTTPException(400, str(error)) from None


def _check_accept(accept: str) -> None:
    wanted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if wanted.isdisjoint({DICOM_JSON, "application/json", "application/*", "*/*", ""}):
        raise HTTPException(406, f"The answer is of type {DICOM_JSON}: accept it.")


def _answer(taken: list[Taken[Any]], headers: dict[str, str], url: Any = lambda found: "") -> Response:
    """The Store Instances Response (PS3.18 sections 10.5.3 and I.2)."""
    stored, failed, others = [], [], []
    for item in taken:
        if not item.reason and item.found:
            stored.append({**_names(item.found), **_url(url(item.found))})
        elif item.found:
            failed.append({**_names(item.found), _REASON: {"vr": "US", "Value": [_code(item.reason)]}})
        else:
            others.append({_REASON: {"vr": "US", "Value": [CANNOT_UNDERSTAND]}})
    told = dict(_sequences(((_FAILED, failed), (_STORED, stored), (_OTHERS, others))))
    status = 409 if not stored else 202 if failed or others else 200
    return Response(json.dumps(told), status, headers=headers, media_type=DICOM_JSON)


def _sequences(named: tuple[tuple[str, list[Any]], ...]) -> Iterator[tuple[str, Any]]:
    for tag, items in named:
        if items:
            yield tag, {"vr": "SQ", "Value": items}


def _names(found: Found) -> dict[str, Any]:
    who = found.identity
    return {_SOP_CLASS: {"vr": "UI", "Value": [who.sop_class]}, _SOP_INSTANCE: {"vr": "UI", "Value": [who.sop]}}


def _url(path: str) -> dict[str, Any]:
    return {_URL: {"vr": "UR", "Value": [path]}} if path else {}


def _code(reason: str) -> int:
    known = {_OF_ANOTHER_STUDY: OTHER_STUDY, DIFFERS: ANOTHER_IMAGE, TWICE: ANOTHER_IMAGE}
    return known.get(reason, CANNOT_UNDERSTAND)
