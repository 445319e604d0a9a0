"""The document of the APIs, and what holds for every route of it: nobody can forget to ask who calls."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from html import escape, unescape
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from airflow_monai.api.app import create_app
from airflow_monai.api.common.document import asks_who
from airflow_monai.api.common.problems import CONTENT_TYPE

Api = Callable[[str | None], TestClient]
ANONYMOUS = {("post", "/callbacks/{token}"), ("get", "/workflow-manager/health")}
"""Routes without a log-in. One that is not meant to be here fails a test."""
PROBLEM = {"$ref": "#/components/schemas/Problem"}
SAID_OTHERWISE = {
    ("POST /app-server/studies", "409"),
    ("POST /app-server/studies/{study_instance_uid}", "409"),
    ("GET /workflow-manager/health", "503"),
}
"""Errors for which a standard says another form (DICOM PS3.18, section 10.5.3), and the health that is bad."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app().openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``GET /path`` -> the operation."""
    found = {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert len(found) > 40
    return found


def routes() -> Iterator[APIRoute]:
    return (route for route in create_app().routes if isinstance(route, APIRoute))


def test_every_route_asks_who_calls() -> None:
    strangers = {
        (method.lower(), route.path)
        for route in routes()
        for method in route.methods
        if not asks_who(route.dependant) and not is_page(route)
    }
    assert strangers == ANONYMOUS


def is_page(route: APIRoute) -> bool:
    """Pages ask by Airflow's own dependency, which tests/api/test_pages.py looks at."""
    names = [one.call.__qualname__ for one in route.dependant.dependencies if one.call]
    return not route.include_in_schema and any("requires_access_dag" in name for name in names)


def test_no_route_stands_in_front_of_another_one() -> None:
    counted = Counter(
        (method, re.sub(r"\{[^}]*\}", "{}", route.path)) for route in routes() for method in route.methods
    )
    assert [place for place, count in counted.items() if count > 1] == []


def test_it_is_valid(document: dict[str, Any]) -> None:
    from openapi_spec_validator import validate

    validate(document)
    assert {"Problem", "FieldError"} <= set(document["components"]["schemas"])
    assert set(document["components"]["securitySchemes"]) == {"bearer", "basic", "cookie"}


def test_it_is_for_who_is_signed_in(api: Api) -> None:
    assert api(None).get("/openapi.json").status_code == 401
    assert api("viewer").get("/openapi.json").json()["servers"] == [{"url": "/"}]


def test_it_is_a_page_to_read_too(api: Api, operations: dict[str, dict[str, Any]]) -> None:
    assert api(None).get("/docs").status_code == 401
    shown = api("viewer").get("/docs")
    assert "<script" not in shown.text and shown.headers["content-security-policy"].startswith("default-src 'none'")
    for name, operation in operations.items():
        method, _, path = name.partition(" ")
        head = f"{method}</b><code>/monai{path}</code><span>{escape(operation['summary'])}</span>"
        assert head in shown.text and escape(operation["x-who-may"]) in shown.text


def test_the_page_shows_fields_and_examples_of_what_is_looked_for(api: Api) -> None:
    shown = api("viewer").get("/docs", params={"find": "POST /mip/runs"}).text
    assert shown.count('<details class="way" open>') == 1 and "1 of " in shown
    example = '{"force_rerun": false, "job": "alpha", "map": "WY_CO_Peach", "modules": ["map_crop"]}'
    assert f"-d {escape(repr(example))}" in shown and "$SERVER/monai/mip/runs" in shown
    assert "<code>extra_args</code>" in shown and "list of text" in shown and "404 Not Found" in shown
    assert escape('"run_id": "alpha-1"') in shown and escape("Module -> words") in shown
    evil = api("viewer").get("/docs", params={"find": '"><script>'}).text
    assert "<script" not in evil and "0 of " in evil


def test_every_example_of_the_page_can_be_typed(api: Api, operations: dict[str, dict[str, Any]]) -> None:
    """In the forms that a shell and a JSON parser take, with nothing left that is written as a place."""
    shown = api("viewer").get("/docs").text
    examples = [unescape(text) for text in re.findall(r"<pre>(curl .*?)</pre>", shown, re.DOTALL)]
    assert len(examples) == len(operations)
    for example in examples:
        words = shlex.split(example.replace("\\\n", " "))
        assert "…" not in example and "%E2%80%A6" not in example
        assert not re.search(r"\{[a-z_]+\}", words[-1] if "-d" not in words else ""), example
        if "-d" in words and "Content-Type: application/json" in words:
            json.loads(words[words.index("-d") + 1])


def test_every_operation_is_described(operations: dict[str, dict[str, Any]]) -> None:
    lacking = [
        (name, operation["operationId"])
        for name, operation in operations.items()
        if not operation.get("summary")
        or not operation.get("description")
        or not re.fullmatch(r"[a-z][a-z0-9_]{3,80}", operation["operationId"])
        or len(operation["tags"]) != 1
    ]
    assert lacking == []
    counted = Counter(operation["operationId"] for operation in operations.values())
    assert [one for one, count in counted.items() if count > 1] == []


def test_every_operation_tells_its_errors(operations: dict[str, dict[str, Any]]) -> None:
    lacking = []
    for name, operation in operations.items():
        answers = set(operation["responses"])
        method, _, path = name.partition(" ")
        is_open = (method.lower(), path) in ANONYMOUS
        wanted = {"429", *(() if is_open else ("401", "403"))}
        if operation.get("parameters") or "requestBody" in operation:
            wanted.add("400")
        lacking += [(name, status) for status in sorted(wanted - answers)]
        if is_open == bool(operation["security"]) or "422" in answers or min(answers) > "3":
            lacking.append((name, "security, 422 or no success"))
    assert lacking == []


def test_every_error_is_told_as_a_problem(operations: dict[str, dict[str, Any]]) -> None:
    others = [
        (name, status)
        for name, operation in operations.items()
        for status, answer in operation["responses"].items()
        if status[0] in "45" and answer.get("content", {}).get(CONTENT_TYPE, {}).get("schema") != PROBLEM
    ]
    assert set(others) <= SAID_OTHERWISE


def test_every_body_has_an_example(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    lacking = [
        (name, kind)
        for name, operation in operations.items()
        for kind, media in operation.get("requestBody", {}).get("content", {}).items()
        if "json" in kind and not has_example(document, media)
    ]
    assert lacking == []


def has_example(document: dict[str, Any], media: dict[str, Any]) -> bool:
    """Of the body, or of each of its fields that must be there."""
    schema = media.get("schema", {})
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    shown = ("example", "examples", "default", "enum", "const")
    if any(word in place for word in ("example", "examples") for place in (media, schema)):
        return True
    needed = schema.get("required") or list(schema.get("properties", {}))[:1]
    fields = [schema.get("properties", {}).get(field, {}) for field in needed]
    return bool(fields) and all(any(word in field for word in shown) for field in fields)
