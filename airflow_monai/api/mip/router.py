"""All of ``/mip``."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from airflow_monai.api.common.access import TheCaller
from airflow_monai.api.common.problems import responses
from airflow_monai.api.mip import jobs, runs

router = APIRouter(prefix="/mip")
router.include_router(runs.router)
router.include_router(jobs.router)


@router.get("/mip_client.py", response_class=Response, responses=responses(), tags=["Job server (mip)"])
def client(caller: TheCaller) -> Response:
    """The command line client, one file that needs only Python and requests."""
    text = files("airflow_monai.mip").joinpath("client.py").read_bytes()
    headers = {"Content-Disposition": 'attachment; filename="mip_client.py"', "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type="text/x-python", headers=headers)
