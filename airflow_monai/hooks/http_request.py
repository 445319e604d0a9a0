"""From a request with templates to one with values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from airflow_monai.errors import InvalidArgument
from airflow_monai.hooks.http_client import HttpRequest
from airflow_monai.hooks.http_endpoint import Endpoint
from airflow_monai.specs.arguments import as_text, resolved
from airflow_monai.specs.conditions.values import SeriesValues
from airflow_monai.specs.http_request import RequestSpec

Resolve = Callable[[str], Any]
_TEMPLATE = re.compile(r"\{\{([^{}]{0,500})\}\}")
_CONTENT_TYPES = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "body": "text/plain; charset=utf-8",
}


def filled_request(spec: RequestSpec, endpoint: Endpoint, resolve: Resolve, own_key: str) -> HttpRequest:
    """The request with its values. Reads the store: not for the event loop.

    :param resolve: what a template's path stands for.
    :param own_key: the idempotency key where the spec asks for one of our own making.
    :raises InvalidArgument: when a value cannot stand where its template does.
    """
    content = _content(spec, resolve)
    headers = {} if content is None else {"Content-Type": _CONTENT_TYPES[spec.body_kind]}
    headers = _merged(headers, {name: _header(name, value, resolve) for name, value in spec.headers.items()})
    key = own_key if spec.key == "true" else str(resolved(spec.key, resolve)).strip()
    if spec.key and not key:
        raise InvalidArgument("idempotency_key stands for nothing: a value that it names is not there.")
    if key:
        headers["Idempotency-Key"] = _checked("idempotency_key", key)
    url = absolute(filled_url(spec.url, resolve), endpoint.url)
    return HttpRequest(
        method=spec.method,
        url=_with_query(url, spec.params, resolve),
        shown=spec.shown,
        headers=headers,
        content=content,
        timeout=spec.timeout,
        max_bytes=spec.max_bytes,
        follows=spec.follows,
    )


def absolute(url: str, base: str) -> str:
    """The address; a path is one on the host (and below the path) of ``base``."""
    return base + url if url.startswith("/") else url


def filled_url(text: str, resolve: Resolve) -> str:
    """An address with its templates replaced, each value quoted, so that it stays where it stands.

    :raises InvalidArgument: when a value in the path is not there, or the path leads upwards.
    """
    place, mark, query = text.partition("?")
    place = _TEMPLATE.sub(lambda found: _segment(found[1].strip(), resolve), place)
    query = _TEMPLATE.sub(lambda found: quote(as_text(resolve(found[1].strip())), safe=""), query)
    if any(part in (".", "..") for part in urlsplit(place).path.split("/")):
        raise InvalidArgument(f"The address {text.partition('?')[0]} leads upwards with the values of its templates.")
    return place + mark + query


def _segment(path: str, resolve: Resolve) -> str:
    value = as_text(resolve(path))
    if not value:
        raise InvalidArgument(f"The value {{{{ {path} }}}} is not there, so that the address cannot be made.")
    return value if path == "job.url" else quote(value, safe="")


def _with_query(url: str, params: Mapping[str, Any], resolve: Resolve) -> str:
    url = url.partition("#")[0]
    if not params:
        return url
    values = {name: _items(resolved(value, resolve)) for name, value in params.items()}
    return url + ("&" if "?" in url else "?") + urlencode(values, doseq=True)


def _items(value: Any) -> list[str]:
    return [_scalar(item) for item in value] if isinstance(value, list) else [_scalar(value)]


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _content(spec: RequestSpec, resolve: Resolve) -> bytes | None:
    if spec.body_kind == "json":
        return json.dumps(typed(spec.body, resolve), ensure_ascii=False).encode("utf-8")
    if spec.body_kind == "form":
        form = {name: _items(resolved(value, resolve)) for name, value in spec.body.items()}
        return urlencode(form, doseq=True).encode("ascii")
    return str(resolved(spec.body, resolve)).encode("utf-8") if spec.body_kind else None


def typed(value: Any, resolve: Resolve) -> Any:
    """A JSON value with its templates replaced: a text that is nothing but one template gets the value's own type."""
    if isinstance(value, str):
        whole = _TEMPLATE.fullmatch(value.strip())
        answer = resolve(whole[1].strip()) if whole else resolved(value, resolve)
        return as_text(answer) or None if isinstance(answer, SeriesValues) else answer
    if isinstance(value, dict):
        return {key: typed(item, resolve) for key, item in value.items()}
    return [typed(item, resolve) for item in value] if isinstance(value, list) else value


def _header(name: str, value: str, resolve: Resolve) -> str:
    return _checked(f"the header {name}", str(resolved(value, resolve)).strip())


def _checked(what: str, value: str) -> str:
    if not value.isprintable() or len(value) > 4_000:
        raise InvalidArgument(f"The value of {what} is too long or holds line breaks, which no header can.")
    return value


def _merged(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    """Both; a name in ``second`` replaces the same name in any case."""
    names = {name.lower() for name in second}
    return {**{name: value for name, value in first.items() if name.lower() not in names}, **second}


def joined(base: str, place: str) -> str:
    """An address as an answer from ``base`` gives it, perhaps as a path only."""
    return urljoin(base, place)
