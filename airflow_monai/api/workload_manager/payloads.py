"""Payloads: files that are uploaded for an AE title, and a payload's files to fetch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, Field

from airflow_monai.api.app_server.datasets import UPLOAD_BODY, RefusedFile, check_any, take_all, upload_kind
from airflow_monai.api.common.access import Right, TheCaller, needs
from airflow_monai.api.common.arrivals import Arrival, Complete, Origin, grouping_at
from airflow_monai.api.common.limits import takes_upload
from airflow_monai.api.common.problems import responses
from airflow_monai.api.common.uploads import Body, upload_site
from airflow_monai.api.workflow_manager.payloads import download_payload
from airflow_monai.datasets.receiving import Upload

router = APIRouter(prefix="/workload-manager/payloads", tags=["Workload Manager: payloads"])


class Arrived(BaseModel):
    """What became of an upload."""

    payload_ids: list[str] = Field(description="The payloads that the images are in.")
    images: int = Field(examples=[120])
    refused: list[RefusedFile] = []
    passed_over: list[str] = Field([], description="Files that are no images.")


@router.post(
    "",
    status_code=202,
    summary="Upload a payload",
    operation_id="upload_payload",
    responses=responses(400, 404, 408, 413, 415, 503, 507),
    openapi_extra=UPLOAD_BODY,
    dependencies=[needs(Right.START_RUNS)],
)
@takes_upload
async def upload_payload(
    request: Request,
    caller: TheCaller,
    ae_title: Annotated[str, Query(min_length=1, max_length=16, description="To whom it is sent.")],
    origin: Origin = "UPLOAD",
    complete: Complete = False,
) -> Arrived:
    """Have images arrive as if they had been sent to an AE title: the workflows that listen to it run on them.

    The good files are taken, and it is said which were refused. To send all of it again does no harm.
    """
    site = await run_in_threadpool(upload_site)
    grouping = await run_in_threadpool(grouping_at, site, ae_title.strip(" "))
    kind = upload_kind(request)

    def work(body: Body) -> Arrived:
        arrival = Arrival(site, ae_title.strip(" "), origin, grouping)
        with Upload(site.spool, site.options.limits, arrival.keep, arrival.check, whole=False) as upload:
            try:
                take_all(body, upload, kind, request.headers.get("content-type", ""), site)
            finally:
                taken = upload.finish()
                arrival.taken(taken, caller)
        check_any(taken, upload.passed_over_count)
        if complete:
            arrival.tell_whole()
        return Arrived(
            payload_ids=arrival.payload_ids,
            images=sum(1 for item in taken if item.kept),
            refused=[RefusedFile(name=item.name, reason=item.reason) for item in taken if item.reason],
            passed_over=upload.passed_over,
        )

    return await site.receive(request, caller.name, work)


router.add_api_route(
    "/{payload_id}",
    download_payload,
    methods=["GET"],
    summary="Download a payload",
    operation_id="download_workload_payload",
    response_class=Response,
    responses=responses(400, 404),
)
