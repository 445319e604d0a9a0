"""How errors look: problem details (RFC 7807, now RFC 9457), or a small page for a browser.

An answer never holds a path of this machine, a host or a stack trace: what nobody foresaw is logged under a number
that the answer names.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from airflow_monai.api.common.mounting import ROOT
from airflow_monai.api.page import HEADERS, Html, link, page, part, row, table
from airflow_monai.errors import (
    InvalidArgument,
    MonaiError,
    PayloadNotFound,
    SettingsError,
    StoreError,
    StoreFull,
    UnsafeKey,
)
from airflow_monai.failures import without_data

log = logging.getLogger(__name__)
CONTENT_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """What is wrong with one part of a request."""

    field: str = Field(examples=["body.tasks[0].id"])
    message: str = Field(examples=["a task needs an id"])
    hint: str = ""
    line: int | None = Field(default=None, description="In the text that was sent, from 1; with ``column``.")
    column: int | None = None


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such job."])
    instance: str = Field(examples=["/monai/app-server/jobs/6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"])
    errors: list[FieldError] = []


class ApiProblem(HTTPException):
    """An error with more to say than one line."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(status, detail, dict(headers) if headers else None)
        self.errors = tuple(errors)


def responses(*statuses: int, anonymous: bool = False) -> dict[int | str, dict[str, Any]]:
    """What a route's documentation says of its errors; 401 and 403 are in it, 400 where it takes anything.

    :param anonymous: nobody has to sign in for the route.
    """
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {CONTENT_TYPE: {"schema": _REFERENCE}}}
        for status in sorted({*statuses} if anonymous else {401, 403, *statuses})
    }


_REFERENCE = {"$ref": "#/components/schemas/Problem"}


def handle_errors(app: FastAPI) -> None:
    """Have every error of the app answered so."""
    app.add_exception_handler(StarletteHTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(MonaiError, _our_error)  # type: ignore[arg-type]
    app.add_exception_handler(DataError, _not_for_databases)
    app.add_middleware(_Edge)


def _http_error(request: Request, error: StarletteHTTPException) -> Response:
    detail = str(error.detail)
    if wants_page(request) and error.status_code == 401:
        return _sign_in(request)
    errors = error.errors if isinstance(error, ApiProblem) else ()
    return told(request, error.status_code, detail, errors, error.headers)


def _sign_in(request: Request) -> Response:
    """Leads to Airflow's log-in, from where it goes back to what was asked for. Without a challenge, at which a browser
    would ask for a password in a window of its own."""
    root = request.scope.get("root_path", "")
    path = request.scope["path"]
    here = root + path.removeprefix(root)  # behind a proxy that strips it, the path is without the root
    query = f"?{request.url.query}" if request.url.query else ""
    address = f"{root.removesuffix(ROOT)}/api/v2/auth/login?next={part(here + query)}"
    what = Html(f"{link(address, 'Sign in to Airflow')} first: that leads back to this page.")
    return HTMLResponse(page("Error 401", table(row("What", what))), 401, headers=HEADERS)


def _invalid(request: Request, error: RequestValidationError) -> Response:
    errors = [FieldError(field=_place(item["loc"]), message=str(item["msg"])) for item in error.errors()]
    first = f"{errors[0].field}: {errors[0].message}" if errors else "it cannot be read"
    return told(request, 400, f"The request is not valid: {first}.", errors)


def _our_error(request: Request, error: MonaiError) -> Response:
    """Our messages hold no patient data."""
    status = 500
    if isinstance(error, PayloadNotFound):
        return told(request, 404, f"There is no payload {error.payload_id!r}.")
    if isinstance(error, UnsafeKey):  # of an id in the request, under which nothing can be
        return told(request, 404, "There is nothing of this id.")
    if isinstance(error, InvalidArgument):
        status = 400
    elif isinstance(error, (StoreError, SettingsError)):  # they may name a folder, which is for the site's eyes
        if isinstance(error, StoreFull):
            return _logged(request, error, 507, "There is no space left for this.", {"Retry-After": "60"})
        if isinstance(error, StoreError):
            return _logged(request, error, 503, headers={"Retry-After": "10"})
        return _logged(request, error, 500)
    return told(request, status, str(error))


def _not_for_databases(request: Request, error: Exception) -> Response:
    """A number that is too large for its column, or a text that its encoding does not have."""
    return _logged(request, error, 400, "A value of the request is none that can be kept or looked for here.")


class BrokenOff(MonaiError):
    """An answer ends in the midst, since the rest of it cannot be had; who asked sees a broken transfer."""


class _Edge:
    """Answers what nobody foresaw. It is no exception handler of the app: from there the error would go on to the
    server, which logs its message, and that may quote a request or what a database was asked."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        begun = False

        async def noticed(message: Any) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except ClientDisconnect:
            raise
        except Exception as error:
            if scope["type"] != "http":
                raise
            answer = _logged(Request(scope), error, 500)
            if begun:
                raise BrokenOff("The answer was broken off; the log says why.") from None
            await answer(scope, receive, send)


def _logged(
    request: Request,
    error: Exception,
    status: int,
    detail: str = "This could not be done here.",
    headers: Mapping[str, str] | None = None,
) -> Response:
    number = uuid.uuid4().hex[:12]
    # without the message of what is none of ours: it may quote a request, or what a database was asked
    log.error("%s %s failed, number %s: %s", request.method, request.url.path, number, without_data(error))
    return told(request, status, f"{detail} The API server's log has the reason, number {number}.", headers=headers)


def told(
    request: Request,
    status: int,
    detail: str,
    errors: Iterable[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer that tells of an error."""
    if wants_page(request):
        return HTMLResponse(
            page(f"Error {status}", table(row("What", detail))), status, headers={**HEADERS, **(headers or {})}
        )
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        errors=list(errors),
    )
    shown = problem.model_dump(exclude={"errors"} if not problem.errors else None, exclude_none=True)
    return JSONResponse(shown, status, headers=dict(headers or {}), media_type=CONTENT_TYPE)


def wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _place(parts: Iterable[Any]) -> str:
    """``("body", "tasks", 0, "id")`` as ``body.tasks[0].id``."""
    text = ""
    for piece in parts:
        text += f"[{piece}]" if isinstance(piece, int) else f".{piece}" if text else str(piece)
    return text
