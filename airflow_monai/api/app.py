"""The pages below ``/monai``: what a task made, and the MAP that it ran.

They live in the process that tasks talk to, so each does a few reads and no more. They change nothing.
"""

from __future__ import annotations

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from airflow_monai.api import maps, tasks
from airflow_monai.api.page import HEADERS, page, row, table
from airflow_monai.errors import MonaiError


def create_app() -> FastAPI:
    """Every route of it asks Airflow's auth manager."""
    app = FastAPI(title="airflow_monai", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(tasks.router)
    app.include_router(maps.router)
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(MonaiError, _our_error)  # type: ignore[arg-type]
    return app


def _http_error(request: Request, error: HTTPException) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
    detail = str(error.detail)
    if error.status_code == 401:
        detail = "Sign in to Airflow first, then open this page again."
    return _told(error.status_code, detail)


def _our_error(_: Request, error: MonaiError) -> Response:
    """Our messages hold no patient data."""
    return _told(500, str(error))


def _told(status: int, detail: str) -> HTMLResponse:
    return HTMLResponse(page(f"Error {status}", table(row("What", detail))), status, headers=HEADERS)
