"""Calls one of our APIs on an Airflow elsewhere, and tells what it refuses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from airflow_monai import __version__
from airflow_monai.errors import CallerUnknown, MonaiError, ServerRefused, ServerUnavailable, SettingsError
from airflow_monai.http_common import nothing_logged

URL, USER, PASSWORD, TOKEN = "MONAI_URL", "MONAI_USER", "MONAI_PASSWORD", "MONAI_TOKEN"
"""Environment variables that say where the server is, and who asks."""
SECONDS = 60.0
PATIENCE = 300.0
"""For so many seconds in all a request is held back and sent again, when the server says that it is asked too often."""
_PAGE = 100
_LONG_PAGE = 1000
_JSON = "application/json"


def place(*parts: str) -> str:
    """A path of which each part is what somebody wrote: it stays one part, whatever is in it.

    :raises SettingsError: for a part that names nothing.
    """
    for part in parts:
        if part.strip() in ("", ".", ".."):
            raise SettingsError(f"{part!r} names nothing.")
    return "".join(f"/{quote(part, safe=':')}" for part in parts)


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks: a name and a password, or a token of Airflow."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def of_environment(cls, user: str = "", *, needed: bool = True) -> Login:
        """
        :param user: in place of the environment's.
        :param needed: False where strangers may ask too.
        :raises SettingsError: when it names nobody.
        """
        found = cls(user or os.environ.get(USER, ""), os.environ.get(PASSWORD, ""), os.environ.get(TOKEN, ""))
        if not found.token and not (found.user and found.password):
            if not needed:
                return cls()
            raise SettingsError(f"Nothing says who asks: set {USER} and {PASSWORD}, or {TOKEN}.")
        return found


class Server:
    """One of our APIs.

    :param url: of the Airflow's API server.
    :param prefix: of the API, as ``workflow-manager``.
    :param transport: a test's own; so is ``sleep``.
    :raises SettingsError: when the address is none.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        login: Login,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{url!r} is no address of a server: write it as in http://localhost:8080.")
        base = url.rstrip("/").removesuffix("/monai")
        headers = {"User-Agent": f"airflow-monai/{__version__}", "Accept": "application/json"}
        if login.token:
            headers["Authorization"] = f"Bearer {login.token}"
        auth = httpx.BasicAuth(login.user, login.password) if login.user and not login.token else None
        self._sleep = sleep
        self._where = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._client = httpx.Client(
            base_url=f"{base}/monai/{prefix}", headers=headers, auth=auth, timeout=SECONDS, transport=transport
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: bytes | Iterable[bytes] | None = None,
        kind: str = "",
        length: int | None = None,
        key: str = "",
        seconds: float = SECONDS,
        also: int = 0,
        **params: Any,
    ) -> Any:
        """The answer's JSON, None where it has no body. Told that it asks too often, it waits for as long as it is
        told and asks again, unless the content is made while it is sent.

        :param body: JSON to send, in place of ``content``.
        :param kind: of the content.
        :param length: of content that is made while it is sent, where it is known.
        :param key: an Idempotency-Key.
        :param seconds: how long to wait for any part of the answer.
        :param also: a status of an error whose JSON is an answer all the same.
        :param params: of the query; those that are None are left out.
        :raises ServerRefused: for an answer of 400 to 499.
        :raises ServerUnavailable: when there is none, or another one, or the caller is not known there.
        """
        if body is not None:
            content, kind = json.dumps(body).encode(), _JSON
        headers = {"Content-Type": kind} if kind else {}
        if length is not None:
            headers["Content-Length"] = str(length)
        if key:
            headers["Idempotency-Key"] = key
        params = {name: value for name, value in params.items() if value is not None}
        patience = _Patience(self._sleep) if content is None or isinstance(content, bytes) else None
        while True:
            try:
                with nothing_logged():
                    answer = self._client.request(
                        method, path, content=content, headers=headers, params=params, timeout=seconds
                    )
            except httpx.HTTPError as error:
                raise ServerUnavailable(
                    f"{self._where} does not answer: {type(error).__name__} {error}".rstrip()
                ) from error
            if answer.is_success:
                return answer.json() if answer.content else None
            if answer.status_code == also and (found := _json(answer)) is not None:
                return found
            if patience is None or not patience.waited(answer):
                raise self._error(answer)

    def stream(self, path: str) -> Iterator[bytes]:
        """A file, in pieces.

        :raises ServerRefused: and :raises ServerUnavailable: as :meth:`call`; also in its middle.
        """
        patience = _Patience(self._sleep)
        try:
            while True:
                with nothing_logged(), self._client.stream("GET", path, headers={"Accept": "*/*"}) as answer:
                    if answer.is_success:
                        yield from answer.iter_bytes()
                        return
                    answer.read()
                if not patience.waited(answer):
                    raise self._error(answer)
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"{self._where} broke off: {type(error).__name__} {error}".rstrip()) from error

    def listed(self, path: str, field: str, *, most: int | None = None, **params: Any) -> list[Any]:
        """The entries of a list that is asked for by offset and limit.

        :param field: of the answer, which has them.
        :param most: no more than these.
        """
        rows: list[Any] = []
        while most is None or len(rows) < most:
            limit = _LONG_PAGE if most is None else min(_LONG_PAGE, most - len(rows))
            page = self.call("GET", path, offset=len(rows), limit=limit, **params)
            rows += page[field]
            if not page[field] or len(rows) >= page["total"]:
                break
        return rows

    def pages(self, path: str, **params: Any) -> Iterator[tuple[list[Any], int]]:
        """The pages of a list: entries of each, and how many all have."""
        number, last = 1, 1
        while number <= last:
            page = self.call("GET", path, pageNumber=number, pageSize=_PAGE, **params)
            yield page["Data"], int(page["TotalRecords"])
            number, last = number + 1, int(page["TotalPages"])

    def close(self) -> None:
        self._client.close()

    def _error(self, answer: httpx.Response) -> MonaiError:
        try:
            told = answer.json()
            detail, errors = str(told["detail"]), tuple(told.get("errors") or ())
        except (ValueError, KeyError, TypeError):
            detail, errors = answer.reason_phrase or "no reason was given", ()
        if answer.status_code == 401:
            return CallerUnknown(f"{self._where} does not know who asks: {detail}")
        if 400 <= answer.status_code < 500:
            return ServerRefused(detail, status=answer.status_code, errors=errors)
        return ServerUnavailable(f"{self._where} answered {answer.status_code}: {detail}")


def _json(answer: httpx.Response) -> Any:
    """None for what is none, or problem details: who answers is then not the API, or it says that it cannot."""
    is_json = answer.headers.get("Content-Type", "").partition(";")[0].strip() == _JSON
    try:
        return answer.json() if is_json else None
    except ValueError:
        return None


class _Patience:
    """How much longer a request is held back for being asked too often."""

    def __init__(self, sleep: Callable[[float], None]):
        self._sleep, self._left = sleep, PATIENCE

    def waited(self, answer: httpx.Response) -> bool:
        """Whether that was the answer, and it has been waited as it says."""
        if answer.status_code != 429:
            return False
        told = answer.headers.get("Retry-After", "")
        seconds = max(1.0, float(told)) if told.isdecimal() else 1.0
        if seconds > self._left:
            return False
        self._left -= seconds
        self._sleep(seconds)
        return True
