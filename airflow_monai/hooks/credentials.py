"""Secrets that tasks show to services, as Airflow connections: what a person says of one, and what is kept of it.

Forms of secrets for HTTP (``http`` and ``http_async`` tasks, the MIP's store, handlers of notifications) are kept as a
connection of type http, which has them in its password or, as headers, in its extra; both are encrypted by Airflow.
Every other type is a connection of that type, with the secret as its password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from airflow_monai.errors import InvalidArgument

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110, section 5.1
_AUTHORIZATION, _BEARER = "Authorization", "Bearer "


class Form(str, Enum):
    """How a service wants to be shown a secret over HTTP."""

    HTTP = "http"
    """None: a host only."""
    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"


FORMS = frozenset(form.value for form in Form)


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret, and where it is for.

    :param type: a :class:`Form`, or the type of an Airflow connection.
    :param secret: None: it has none, or the one that it has stays.
    :param header: of a credential of type ``header``: the header that the secret is sent in.
    :param options: what else the connection's extra says; may hold secrets of its own.
    """

    id: str
    type: str
    description: str = ""
    host: str = ""
    port: int | None = None
    login: str = ""
    header: str = ""
    secret: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """The fields of the connection that keeps a credential."""

    conn_type: str
    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def stored(credential: Credential, before: Credential | None = None) -> Stored:
    """The connection that keeps it.

    :param before: what is there already; of the same type, its secret stays where no new one is said.
    :raises InvalidArgument: when something is missing or cannot stand together.
    """
    kept = before if before is not None and before.type == credential.type else None
    secret = credential.secret if credential.secret is not None else (kept.secret if kept else None)
    secret = secret or ""
    _check(credential, secret)
    options = dict(credential.options)
    common = {"host": credential.host, "port": credential.port}
    if credential.type not in FORMS:
        return Stored(credential.type, login=credential.login, password=secret, extra=options, **common)  # type: ignore[arg-type]
    if credential.type == Form.BASIC.value:
        return Stored("http", login=credential.login, password=secret, extra=options, **common)  # type: ignore[arg-type]
    if credential.type == Form.BEARER.value:
        options["headers"] = {_AUTHORIZATION: _BEARER + secret}
    elif credential.type == Form.HEADER.value:
        options["headers"] = {credential.header: secret}
    return Stored("http", extra=options, **common)  # type: ignore[arg-type]


def read(conn_id: str, connection: Stored, description: str = "") -> Credential:
    """The credential that a connection keeps, however it was made."""
    found = Credential(
        conn_id, connection.conn_type, description, connection.host, connection.port, connection.login,
        secret=connection.password or None, options=connection.extra,
    )  # fmt: skip
    if connection.conn_type != "http":
        return found
    if connection.login or connection.password:
        return replace(found, type=Form.BASIC.value)
    options = dict(connection.extra)
    headers = options.pop("headers", None)
    if not isinstance(headers, dict) or len(headers) != 1:
        return replace(found, type=Form.HTTP.value)
    ((name, value),) = ((str(name), str(value)) for name, value in headers.items())
    if name.lower() == _AUTHORIZATION.lower() and value.startswith(_BEARER):
        return replace(found, type=Form.BEARER.value, secret=value.removeprefix(_BEARER), options=options)
    return replace(found, type=Form.HEADER.value, header=name, secret=value, options=options)


def _check(credential: Credential, secret: str) -> None:
    kind = credential.type
    if kind in FORMS and not credential.host:
        raise InvalidArgument(f"A credential of type {kind} needs a host: it is shown to no other one.")
    if kind in FORMS and "headers" in credential.options:
        raise InvalidArgument("Say a header and its secret by the type header, not in options.")
    if kind == Form.HTTP.value and (secret or credential.login):
        raise InvalidArgument("A credential of type http has no login and no secret: use basic, bearer or header.")
    if kind == Form.BASIC.value and not credential.login:
        raise InvalidArgument("A credential of type basic needs a login.")
    if kind in (Form.BASIC.value, Form.BEARER.value, Form.HEADER.value) and not secret:
        raise InvalidArgument(f"A credential of type {kind} needs a secret.")
    if kind in (Form.BEARER.value, Form.HEADER.value):
        if credential.login:
            raise InvalidArgument(f"A credential of type {kind} has no login.")
        if not secret.isascii() or not secret.isprintable():
            raise InvalidArgument("The secret is sent in a header: it must be of printable ASCII characters.")
    if (kind == Form.HEADER.value) != bool(credential.header):
        raise InvalidArgument("The type header, and no other one, needs the name of a header.")
    if credential.header and not HEADER_NAME.fullmatch(credential.header):
        raise InvalidArgument("The name of the header cannot be one.")
