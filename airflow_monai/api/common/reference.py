"""The APIs' document as a page to read: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_monai.api.page import Html, code, escaped, heading, link, listing, page


def reference_page(document: dict[str, Any]) -> str:
    """A page that lists every operation of an OpenAPI document: what it is for, what it takes, what it answers."""
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    parts: list[str] = [link("openapi.json", "OpenAPI document, for tools")]
    for tag in sorted(by_tag):
        rows = (
            (code(f"{method} {path}"), _about(operation), _takes(operation), ", ".join(operation["responses"]))
            for method, path, operation in by_tag[tag]
        )
        parts += [heading(tag), listing(("Operation", "What", "Takes", "Answers"), rows)]
    return page("The APIs of this site", *parts)


def _about(operation: dict[str, Any]) -> Html:
    return Html(f"<b>{escaped(operation['summary'])}</b><br>{escaped(operation.get('description', ''))}")


def _takes(operation: dict[str, Any]) -> Html:
    return Html("<br>".join(_inputs(operation)))


def _inputs(operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        needed = "" if parameter.get("required") else " (optional)"
        yield f"{code(parameter['name'])} {escaped(parameter['in'])}{needed}"
    for kind in operation.get("requestBody", {}).get("content", {}):
        yield escaped(kind)
