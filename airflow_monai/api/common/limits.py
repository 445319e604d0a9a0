"""How much one caller may ask, and how large a request may be: kept before any route of ours begins.

A caller is a person or a service by the name that Airflow's auth manager knows; who has not said one yet, or a wrong
one, is counted by address. The counts are in the memory of one API server: several of them allow as many times more.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from starlette.datastructures import Headers

from airflow_monai.api.common.options import ApiOptions
from airflow_monai.api.common.problems import told

MAX_CALLERS = 20_000
"""Callers that are remembered; of more, those forgotten that have not asked for the longest time."""
KNOWN_SECONDS = 300.0
"""How long credentials that were right count for their name, without being looked at again."""
MAX_DEPTH = 64
"""Of lists and mappings in each other in a JSON document."""

HEAD = "monai.head"
"""In the scope of a request that wants no body."""
_REMEMBER = "monai.remember"
_MARKS = re.compile(rb'\\.|["\[\]{}]', re.DOTALL)
_NOT_TEXT = re.compile(rb"(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89a-fA-F])")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def takes_upload(endpoint: Endpoint) -> Endpoint:
    """Mark a route's function that reads its request as a stream, and bounds that itself; stands below the route's
    decorator."""
    endpoint.takes_upload = True  # type: ignore[attr-defined]
    return endpoint


def remember(request: Request, name: str) -> None:
    """Say who it was, once that is known: the next requests with these credentials are counted by the name."""
    told_by = request.scope.get(_REMEMBER)
    if told_by is not None:
        told_by(name)


class Limits:
    """Answers 429 where a caller asks too much, and lets no request in that is too large or too deep.

    ``HEAD`` goes on as the ``GET`` that it is, without a body.
    """

    def __init__(self, app: Any, options: ApiOptions, clock: Callable[[], float] = time.monotonic):
        self._app = app
        self._max_body = options.max_body
        self._buckets = Buckets(options.rate, options.burst, clock)
        self._known = _Recent(MAX_CALLERS)  # digest of the credentials -> until when, name
        self._clock = clock

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        credentials = _credentials(scope)
        seconds = self._buckets.take(self._caller(scope, credentials))
        if seconds:
            detail = "This caller asks more often than [monai] api_rate allows here: ask again later."
            wait = {"Retry-After": str(math.ceil(seconds))}
            await told(Request(scope), 429, detail, headers=wait)(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            status, detail = (404, "There is nothing here.") if "\0" in scope["path"] else (400, "A value holds a NUL.")
            await told(Request(scope), status, detail)(scope, receive, send)
            return
        scope = {**scope, _REMEMBER: lambda name: self._remember(credentials, name)}
        if scope["method"] == "HEAD":
            scope |= {HEAD: True, "method": "GET"}
            send = _without_body(send)
        await self._app(scope, Body(scope, receive, self._max_body), send)

    def _caller(self, scope: Any, credentials: bytes) -> tuple[str, str]:
        until, name = self._known.get(credentials, (0.0, "")) if credentials else (0.0, "")
        return ("name", name) if until > self._clock() else ("address", (scope.get("client") or ("", 0))[0])

    def _remember(self, credentials: bytes, name: str) -> None:
        if credentials:
            self._known.put(credentials, (self._clock() + KNOWN_SECONDS, name))


class Body:
    """What a request brings, as ASGI's ``receive``: bounded, unless its route takes uploads.

    A JSON document is read whole and looked at before anybody takes it apart.
    """

    def __init__(self, scope: Any, receive: Any, most: int):
        self._scope, self._receive, self._most = scope, receive, most
        self._left = most
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        self._length = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0  # else it is counted as it comes
        self._is_json = "json" in headers.get("content-type", "").lower()
        self._begun = False

    async def __call__(self) -> Any:
        if getattr(self._scope.get("endpoint"), "takes_upload", False):
            return await self._receive()
        if self._length > self._most:
            raise self._too_large()
        if not self._is_json or self._begun:
            return await self._next()
        self._begun = True
        pieces, more = [], True
        while more:
            message = await self._next()
            if message["type"] != "http.request":
                return message
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        document = b"".join(pieces)
        check_document(document)
        return {"type": "http.request", "body": document, "more_body": False}

    async def _next(self) -> Any:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise self._too_large()
        return message

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The request is too large: at most {self._most} bytes ([monai] api_max_body).")


def check_document(document: bytes) -> None:
    """Whether a JSON text is one that everything here can live with.

    :raises HTTPException: 400 when it is nested too deeply, or a text in it holds what no database takes: NUL, or half
        of a character.
    """
    depth, in_text = 0, False
    for mark in _MARKS.finditer(document):
        found = mark[0]
        if found == b'"':
            in_text = not in_text
        elif in_text or found[:1] == b"\\":
            continue
        elif found in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise HTTPException(400, f"The JSON document is nested more than {MAX_DEPTH} deep.")
        else:
            depth -= 1
    if b"\\u" in document and _NOT_TEXT.search(_PAIR.sub(b"", document)):
        raise HTTPException(400, "A text of the JSON document holds a NUL, or half of a character.")


class Buckets:
    """How much each caller has left: a bucket of tokens that fills at a rate.

    :param rate: tokens a second; 0: nothing is counted.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._clock = rate, burst, clock
        self._levels = _Recent(MAX_CALLERS)  # caller -> tokens, and when it had so many
        self._lock = threading.Lock()

    def take(self, caller: Hashable) -> float:
        """Take one token: 0, or after how many seconds there is one."""
        if not self._rate:
            return 0.0
        now = self._clock()
        with self._lock:
            level, since = self._levels.get(caller, (float(self._burst), now))
            level = min(self._burst, level + (now - since) * self._rate)
            enough = level >= 1
            self._levels.put(caller, (level - 1 if enough else level, now))
        return 0.0 if enough else (1 - level) / self._rate


class _Recent(OrderedDict[Any, Any]):
    """The entries that were put last, and no more than so many."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def put(self, key: Hashable, value: Any) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


def _credentials(scope: Any) -> bytes:
    """A digest of what the caller shows; empty for nothing."""
    shown = [value for name, value in scope["headers"] if name in (b"authorization", b"cookie")]
    return hashlib.sha256(b"\0".join(shown)).digest() if shown else b""


def _without_body(send: Any) -> Any:
    async def wrapped(message: Any) -> None:
        if message["type"] != "http.response.body":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body"})

    return wrapped
