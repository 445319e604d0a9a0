"""An HTTP request as the arguments of a task describe it: read once, and checked the same for files and for operators.

Templates stay templates here; :mod:`airflow_monai.hooks.http_request` puts values in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from airflow_monai.errors import InvalidArgument
from airflow_monai.specs.json_path import keys_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods whose repetition changes nothing (RFC 9110 section 9.2.2)."""
DEFAULT_MAX_BYTES = 1_000_000
MAX_BYTES = 64_000_000
DEFAULT_TIMEOUT = 30.0
MAX_TIMEOUT = 3600.0
EXPECTED = ((200, 299),)
BODIES = ("body", "json", "form")
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "idempotency-key"})
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HOST = re.compile(r"https?://[^/?#{}\s]+(?=[/?]|\Z)", re.IGNORECASE)


class ResponseKind(str, Enum):
    """What of the answer becomes the task's result."""

    JSON = "json"
    TEXT = "text"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """One request.

    :param url: absolute, or a path on the host of the connection.
    :param body_kind: ``body``, ``json``, ``form``, or empty for a request without one.
    :param expected: ranges of status codes that are an answer as wanted.
    :param results: result key -> place in the JSON answer; empty for the whole answer.
    :param max_bytes: of the answer.
    :param timeout: seconds for one request with its answer.
    :param key: ``true``: a key of this package's own making; any other text is the key; empty for none.
    :param follows: redirects on the same host.
    """

    url: str
    method: str = "GET"
    connection: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    body_kind: str = ""
    body: Any = None
    expected: tuple[tuple[int, int], ...] = EXPECTED
    response: ResponseKind = ResponseKind.JSON
    results: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = DEFAULT_MAX_BYTES
    timeout: float = DEFAULT_TIMEOUT
    key: str = ""
    follows: bool = True

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method in REPEATABLE or bool(self.key)

    @property
    def shown(self) -> str:
        """What messages may say of it: no values, no query."""
        place = self.url.partition("?")[0]
        return f"{self.method} {place}" + (f" (connection {self.connection})" if self.connection else "")

    def expects(self, status: int) -> bool:
        return any(low <= status <= high for low, high in self.expected)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the arguments; ``name`` is empty for what concerns all of them."""

    name: str
    code: str
    message: str
    hint: str = ""


def request_spec(args: Mapping[str, Any]) -> RequestSpec:
    """The request that arguments describe.

    :raises InvalidArgument: when they cannot be used.
    """
    args = lowered(args)
    for problem in problems_of(args):
        raise InvalidArgument(f"{problem.name or 'the request'} {problem.message}. {problem.hint}".strip())
    kind = next((name for name in BODIES if name in args), "")
    try:
        return RequestSpec(
            url=str(args.get("url") or args.get("path")).strip(),
            method=_text(args, "method", "POST" if kind else "GET").upper(),
            connection=_text(args, "connection"),
            headers={str(name): str(value) for name, value in args.get("headers", {}).items()},
            params=args.get("params", {}),
            body_kind=kind,
            body=args.get(kind),
            expected=status_ranges(args["expected_status"]) if "expected_status" in args else EXPECTED,
            response=ResponseKind(_text(args, "response", "json").lower()),
            results={str(name): str(place) for name, place in args.get("results", {}).items()},
            max_bytes=int(_text(args, "max_response_bytes", str(DEFAULT_MAX_BYTES))),
            timeout=float(_text(args, "timeout_seconds", str(DEFAULT_TIMEOUT))),
            key=_key(args),
            follows=_text(args, "redirects", "same_host").lower() != "none",
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"The arguments of an HTTP request cannot be used: {error}") from None


def lowered(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by their names in lower case."""
    return {name.lower(): value for name, value in args.items()}


def _text(args: Mapping[str, Any], name: str, default: str = "") -> str:
    return str(args.get(name, default)).strip()


def _key(args: Mapping[str, Any]) -> str:
    text = _text(args, "idempotency_key")
    return {"false": "", "true": "true"}.get(text.lower(), text)


def status_ranges(value: Any) -> tuple[tuple[int, int], ...]:
    """``200``, ``"200-299, 404"`` or a list of these.

    :raises ValueError: when it is none.
    """
    items = value if isinstance(value, list) else str(value).split(",")
    found = []
    for item in items:
        match = re.fullmatch(r"([1-5][0-9][0-9])(?:\s*-\s*([1-5][0-9][0-9]))?", str(item).strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{str(item)[:40]!r} is no status code or range of them")
        found.append((int(match[1]), int(match[2] or match[1])))
    return tuple(found)


def host_of(url: str) -> str:
    """``https://host:port`` of an absolute address that has passed the checks."""
    match = _HOST.match(url)
    return match[0] if match else ""


def problems_of(args: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the arguments beyond their single values.

    :param args: by their names in lower case.
    """
    yield from _place(args)
    yield from _body(args)
    headers = args.get("headers")
    for name in headers if isinstance(headers, dict) else ():
        yield from _header(str(name))
    if "expected_status" in args:
        try:
            status_ranges(args["expected_status"])
        except ValueError as error:
            yield Problem("expected_status", "bad-argument", f"cannot be read: {error}", "for example 200-299, 404")
    yield from _results(args)


def _place(args: Mapping[str, Any]) -> Iterator[Problem]:
    url, path, connection = (args.get(name) for name in ("url", "path", "connection"))
    if path is not None:
        if url is not None:
            yield Problem("path", "bad-argument", "cannot stand beside url", "keep one of them")
        elif not connection:
            hint = "give the host in an Airflow connection: connection: <its id>"
            yield Problem("path", "missing-argument", "needs a connection", hint)
        elif not str(path).startswith("/"):
            yield Problem("path", "bad-argument", "must begin with '/'", "for example path: /v1/studies")
    elif url is None:
        yield Problem("", "missing-argument", "needs a url, or a path with a connection", "url: https://host/path")
    elif connection:
        hint = "write path: with what follows the host; the host stands in the connection"
        yield Problem("url", "bad-argument", "cannot stand beside connection, whose secrets are for its host", hint)
    else:
        yield from _url(str(url).strip())


def _url(url: str) -> Iterator[Problem]:
    match = _HOST.match(url)
    if not match:
        hint = "for example https://ai.hospital.example/v1/jobs; no template in the host"
        yield Problem("url", "bad-argument", "must be an absolute address of http or https", hint)
        return
    try:
        parts = urlsplit(match[0])
        has_user, _ = "@" in parts.netloc, parts.port
    except ValueError:
        yield Problem("url", "bad-argument", "has no host or port that can be used", "https://host:port/path")
        return
    if has_user:
        hint = "put them into an Airflow connection, and name it: connection: <its id>"
        yield Problem("url", "secret-in-file", "must not hold a user name or password", hint)


def _body(args: Mapping[str, Any]) -> Iterator[Problem]:
    given = [name for name in BODIES if name in args]
    for name in given[1:]:
        yield Problem(name, "bad-argument", f"cannot stand beside {given[0]}", "a request has one body")
    method = _text(args, "method").upper()
    if given and method in ("GET", "HEAD", "OPTIONS"):
        yield Problem(given[0], "bad-argument", f"cannot be sent with {method}", "use method: POST, or params")


def _header(name: str) -> Iterator[Problem]:
    if not _HEADER.fullmatch(name):
        yield Problem("headers", "bad-argument", f"hold no header name: {name[:40]!r}", "letters, digits and '-'")
    elif name.lower() in _SECRET_HEADERS:
        hint = "put it into an Airflow connection, as password or as a header in its extra"
        yield Problem("headers", "secret-in-file", f"must not hold {name}", hint)
    elif name.lower() in _OWN_HEADERS:
        hint = "use idempotency_key" if name.lower() == "idempotency-key" else "remove it"
        yield Problem("headers", "bad-argument", f"cannot set {name}, which is set by itself", hint)


def _results(args: Mapping[str, Any]) -> Iterator[Problem]:
    results = args.get("results")
    if not isinstance(results, dict):
        return
    if _text(args, "response", "json").lower() != "json":
        yield Problem("results", "bad-argument", "need an answer in JSON", "response: json")
    for name, place in results.items():
        try:
            keys_of(str(place))
        except ValueError as error:
            message = f"{str(name)[:40]!r} is no place in a JSON document: {error}"
            yield Problem("results", "bad-argument", message, "for example volume: data.volume_ml")
