"""Calls one of our APIs on an Airflow elsewhere, and tells what it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from airflow_monai import __version__
from airflow_monai.errors import MonaiError, ServerRefused, ServerUnavailable, SettingsError
from airflow_monai.http_common import nothing_logged

URL, USER, PASSWORD, TOKEN = "MONAI_URL", "MONAI_USER", "MONAI_PASSWORD", "MONAI_TOKEN"
"""Environment variables that say where the server is, and who asks."""
SECONDS = 60.0
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks: a name and a password, or a token of Airflow."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def of_environment(cls, user: str = "") -> Login:
        """
        :param user: in place of the environment's.
        :raises SettingsError: when it names nobody.
        """
        found = cls(user or os.environ.get(USER, ""), os.environ.get(PASSWORD, ""), os.environ.get(TOKEN, ""))
        if not found.token and not (found.user and found.password):
            raise SettingsError(f"Nothing says who asks: set {USER} and {PASSWORD}, or {TOKEN}.")
        return found


class Server:
    """One of our APIs.

    :param url: of the Airflow's API server.
    :param prefix: of the API, as ``workflow-manager``.
    :param transport: a test's own.
    :raises SettingsError: when the address is none.
    """

    def __init__(self, url: str, prefix: str, login: Login, transport: httpx.BaseTransport | None = None):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{url!r} is no address of a server: write it as in http://localhost:8080.")
        base = url.rstrip("/").removesuffix("/monai")
        headers = {"User-Agent": f"airflow-monai/{__version__}", "Accept": "application/json"}
        if login.token:
            headers["Authorization"] = f"Bearer {login.token}"
        auth = None if login.token else httpx.BasicAuth(login.user, login.password)
        self._where = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._client = httpx.Client(
            base_url=f"{base}/monai/{prefix}", headers=headers, auth=auth, timeout=SECONDS, transport=transport
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Iterable[bytes] | None = None,
        kind: str = "",
        length: int | None = None,
        seconds: float = SECONDS,
        **params: Any,
    ) -> Any:
        """The answer's JSON, None where it has no body.

        :param kind: of the content.
        :param length: of content that is made while it is sent, where it is known.
        :param seconds: how long to wait for any part of the answer.
        :raises ServerRefused: for an answer of 400 to 499.
        :raises ServerUnavailable: when there is none, or another one, or the caller is not known there.
        """
        headers = {"Content-Type": kind} if kind else {}
        if length is not None:
            headers["Content-Length"] = str(length)
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
        raise self._error(answer)

    def stream(self, path: str) -> Iterator[bytes]:
        """A file, in pieces.

        :raises ServerRefused: and :raises ServerUnavailable: as :meth:`call`; also in its middle.
        """
        try:
            with nothing_logged(), self._client.stream("GET", path, headers={"Accept": "*/*"}) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._error(answer)
                yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"{self._where} broke off: {type(error).__name__} {error}".rstrip()) from error

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
            return ServerUnavailable(f"{self._where} does not know who asks: {detail}")
        if 400 <= answer.status_code < 500:
            return ServerRefused(detail, status=answer.status_code, errors=errors)
        return ServerUnavailable(f"{self._where} answered {answer.status_code}: {detail}")
