"""The OpenAPI document of the APIs: what holds for every route is written into it here, in one place.

It is for who is signed in, as everything else: what is installed at a site, and where, is not for strangers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute

from airflow_monai.api.common.access import TheCaller, caller_of
from airflow_monai.api.common.mounting import ROOT
from airflow_monai.api.common.problems import FieldError, Problem, responses
from airflow_monai.api.common.reference.page import Reference
from airflow_monai.api.common.who_may import who_may
from airflow_monai.api.page import HEADERS

DESCRIPTION = """\
The APIs of a site that runs clinical imaging-AI workflows on Apache Airflow.

Sign in with a token of Airflow (`POST /auth/token` of the same server), with name and password where its auth manager
takes them, or with the cookie of its UI. Rights are those of Airflow. Errors are problem details (RFC 9457).
"""
SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of Airflow's auth manager, as `POST /auth/token` of the same server gives it.",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "Name and password, where the auth manager takes them.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "_token",
        "description": "Of a browser that is signed in to Airflow's UI.",
    },
}
_UNNEEDED = ("HTTPValidationError", "ValidationError")
"""What FastAPI says of invalid requests, which are told as all other errors here."""


def operation_id(route: APIRoute) -> str:
    """``list_runs`` of ``/mip/runs`` is ``mip_list_runs``, unless the route says its own."""
    api = route.path.strip("/").partition("/")[0].replace("-", "_")
    return route.name if route.name.startswith(api) else f"{api}_{route.name}"


def publish(app: FastAPI) -> None:
    """Write the app's document as said above, and serve it to who is signed in."""
    made = app.openapi
    pages: dict[str, Reference] = {}

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = completed(made(), anonymous=set(_anonymous(app)))
            _tell_who_may(app, app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/openapi.json", include_in_schema=False)
    def document(request: Request, _: TheCaller) -> JSONResponse:
        root = request.scope.get("root_path", "")
        return JSONResponse({**app.openapi(), "servers": [{"url": root or "/"}]})

    @app.get("/docs", include_in_schema=False)
    def reference(request: Request, _: TheCaller, find: Annotated[str, Query(max_length=200)] = "") -> HTMLResponse:
        root = request.scope.get("root_path") or ROOT
        if root not in pages:
            pages[root] = Reference(app.openapi(), root)
        server = f"{request.url.scheme}://{request.url.netloc}"
        return HTMLResponse(pages[root].page(find, server), headers=HEADERS)


def completed(document: dict[str, Any], anonymous: set[tuple[str, str]]) -> dict[str, Any]:
    """The document with what holds for all routes.

    :param anonymous: path and method of those that need no log-in.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _UNNEEDED:
        schemas.pop(name, None)
    for model in (Problem, FieldError):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    document["components"]["securitySchemes"] = SCHEMES
    tags = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _complete(operation, anonymous=(path, method) in anonymous)
            tags.update(operation.get("tags", ()))
    document["tags"] = [{"name": tag} for tag in sorted(tags)]
    return document


def _complete(operation: dict[str, Any], *, anonymous: bool) -> None:
    operation["security"] = [] if anonymous else [{name: []} for name in SCHEMES]
    answers = operation["responses"]
    if _UNNEEDED[0] in str(answers.get("422")):
        del answers["422"]
    always = [429]
    if operation.get("parameters") or "requestBody" in operation:
        always.append(400)
    if "requestBody" in operation:
        always.append(413)
    for status, answer in responses(*always, anonymous=anonymous).items():
        answers.setdefault(str(status), answer)
    operation["responses"] = {status: answers[status] for status in sorted(answers)}


def _tell_who_may(app: FastAPI, document: dict[str, Any]) -> None:
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in map(str.lower, route.methods):
                anonymous = not asks_who(route.dependant)
                document["paths"][route.path][method]["x-who-may"] = who_may(route, method, anonymous=anonymous)


def _anonymous(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        if isinstance(route, APIRoute) and not asks_who(route.dependant):
            for method in route.methods:
                yield route.path, method.lower()


def asks_who(dependant: Any) -> bool:
    """Whether a route, or anything that it depends on, asks who calls."""
    return any(one.call is caller_of or asks_who(one) for one in dependant.dependencies)
