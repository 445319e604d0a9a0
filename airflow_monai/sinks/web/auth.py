"""How a sink shows an HTTP service who it is: not at all, by a password, a token, or a token that it fetches first."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_monai.errors import SinkUnavailable
from airflow_monai.sinks.base import Destination

if TYPE_CHECKING:
    import httpx

MARGIN = 30.0
"""Seconds before its end at which a token counts as too old."""
LIFETIME = 300.0
"""Seconds that a token without ``expires_in`` is used."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The value of the header ``Authorization``, empty for none; it is what it is."""

    value: str = field(default="", repr=False)

    def authorization(self, client: httpx.Client, seconds: float, refused: str = "") -> str:
        """The value to send.

        :param seconds: that a token service may take to answer.
        :param refused: the value that the service has just answered with 401: a fresh one is wanted, if there is any.
        """
        return self.value


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """OAuth 2 client credentials (RFC 6749 section 4.4): a token is fetched, shared by this process, and renewed.

    :param style: how the client shows its secret: ``basic`` (in a header) or ``post`` (in the form), section 2.3.1.
    """

    destination: Destination = field(repr=False)
    token_url: str
    client_id: str
    secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""
    style: str = "basic"

    def authorization(self, client: httpx.Client, seconds: float, refused: str = "") -> str:
        """As :meth:`Credentials.authorization`.

        :raises SinkUnavailable: the token service does not answer.
        :raises DestinationError: it refuses.
        """
        key = (self.token_url, self.client_id, self.secret, self.scope, self.audience)
        with _LOCK:
            lock = _LOCKS.setdefault(key, threading.Lock())
        with lock:  # its own, since another's service may hang
            token = _TOKENS.get(key)
            if token is None or token.ends <= time.monotonic() or token.value == refused:
                token = _TOKENS[key] = self._fetched(client, seconds)
            return token.value

    def _fetched(self, client: httpx.Client, seconds: float) -> _Token:
        import httpx

        form = {"grant_type": "client_credentials", "scope": self.scope, "audience": self.audience}
        headers = {"Accept": "application/json"}
        if self.style == "post":
            form |= {"client_id": self.client_id, "client_secret": self.secret}
        else:
            headers["Authorization"] = basic(self.client_id, self.secret)
        data = {name: value for name, value in form.items() if value}
        try:
            answer = client.post(self.token_url, data=data, headers=headers, timeout=seconds)
        except httpx.HTTPError as error:
            raise SinkUnavailable(f"{self._where} does not answer ({type(error).__name__}).") from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise SinkUnavailable(f"{self._where} answered HTTP {answer.status_code}.")
        if answer.status_code != 200:
            raise self.destination.error(f"{self._where} gives no token: HTTP {answer.status_code}{_reason(answer)}")
        return self._token(answer)

    def _token(self, answer: httpx.Response) -> _Token:
        try:
            found = answer.json()
            value, seconds = str(found["access_token"]), float(found.get("expires_in") or LIFETIME)
            return _Token(f"Bearer {value}", time.monotonic() + max(1.0, seconds - MARGIN))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self.destination.error(f"{self._where} answers with something that is no token") from None

    @property
    def _where(self) -> str:
        return f"the token service of {self.destination.name} (token_url)"


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    ends: float


_TOKENS: dict[tuple[str, ...], _Token] = {}
_LOCKS: dict[tuple[str, ...], threading.Lock] = {}
_LOCK = threading.Lock()
Authorizer = Credentials | ClientCredentials
"""What both have is ``authorization``."""


def authorizer_of(destination: Destination, check_url: Callable[[str, str], str]) -> Authorizer:
    """How a destination wants us to log in.

    With ``token_url`` in the extra by OAuth 2: login and password are client id and secret, ``scope``, ``audience`` and
    ``client_auth`` (basic or post) go with it. Else login and password are basic authentication (RFC 7617), and a
    password without a login is a bearer token (RFC 6750).

    :param check_url: checks an address, given the name of the extra that holds it.
    """
    token_url = destination.text("token_url")
    if token_url:
        if not destination.login or not destination.password:
            raise destination.error("token_url needs the client id as login and the client secret as password")
        return ClientCredentials(
            destination,
            check_url("token_url", token_url),
            destination.login,
            destination.password,
            destination.text("scope"),
            destination.text("audience"),
            destination.choice("client_auth", "basic", ("basic", "post")),
        )
    if destination.login:
        return Credentials(basic(destination.login, destination.password))
    return Credentials(f"Bearer {destination.password.strip()}" if destination.password else "")


def basic(login: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{login}:{password}'.encode()).decode()}"


def _reason(answer: httpx.Response) -> str:
    """The error code of RFC 6749 section 5.2, when there is one; nothing else of the answer."""
    try:
        code = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    known = ("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "invalid_scope")
    return f" {code}" if code in known else ""
