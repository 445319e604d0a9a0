"""What an Airflow connection of type HTTP says: where to, with which credentials, and how TLS is checked.

As in Airflow's own HTTP provider: ``host`` (with or without ``https://``), ``schema``, ``port``, ``login`` and
``password`` (basic authentication); in ``extra`` ``verify`` (false, or the file of a certificate authority), ``cert``
(file, or list of certificate and key), ``proxy``, and everything else, or all below ``headers``, as headers.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_monai.errors import InvalidArgument
from airflow_monai.tls import client_context

if TYPE_CHECKING:
    from airflow.sdk import Connection

_NO_HEADERS = frozenset(
    {"verify", "cert", "proxy", "proxies", "headers", "timeout", "allow_redirects", "max_redirects", "stream"}
    | {"check_response", "trust_env", "tcp_keep_alive"}
)
Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and the rights to call it.

    :param url: ``https://host:port`` and an optional path, without a final slash; empty for requests without rights.
    :param headers: sent to this host only; hold secrets.
    :param verify: check the certificate: with the system's authorities, with those of a file, or not at all.
    :param cert: files of a client certificate and its key.
    """

    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    cert: tuple[str, ...] = ()
    proxy: str = field(default="", repr=False)

    def headers_for(self, url: str) -> Mapping[str, str]:
        """The headers with the rights, when the address is of this host."""
        return self.headers if self.url and origin(url) == origin(self.url) else {}

    def ssl_context(self) -> ssl.SSLContext:
        """Reads files: not for the event loop.

        :raises InvalidArgument: when a file cannot be used.
        """
        try:
            return client_context(self.verify, self.cert)
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"The connection to {self.url or 'the host'}: verify or cert of its extra names a file that cannot be "
                f"used ({type(error).__name__})."
            ) from None


async def endpoint_of(conn_id: str) -> Endpoint:
    """The endpoint that a connection describes; one without rights for no connection.

    :raises InvalidArgument: when there is none, or it has no host.
    """
    if not conn_id:
        return Endpoint()
    from airflow_monai.hooks.connections import aconnection_of

    missing = InvalidArgument(
        f"There is no Airflow connection {conn_id!r}. Add one of type HTTP under Admin, Connections, or as "
        f"AIRFLOW_CONN_{conn_id.upper()}."
    )
    return endpoint_from(*await aconnection_of(conn_id, missing))


def endpoint_from(connection: Connection, extra: Mapping[str, Any]) -> Endpoint:
    """The endpoint of a connection whose extra has been read."""
    host = (connection.host or "").strip()
    if not host:
        raise InvalidArgument(f"The Airflow connection {connection.conn_id!r} has no host.")
    if "://" not in host:
        scheme = connection.schema if connection.schema in ("http", "https") else "http"
        host = f"{scheme}://{host}"
    parts = urlsplit(host)
    place = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = connection.port or parts.port
    url = f"{parts.scheme}://{place}" + (f":{port}" if port else "") + parts.path.rstrip("/")
    cert = extra.get("cert") or ()
    return Endpoint(
        url=url,
        headers=_headers(connection, extra),
        verify=_verify(extra.get("verify", True)),
        cert=(cert,) if isinstance(cert, str) else tuple(cert),
        proxy=str(extra.get("proxy") or ""),
    )


def _headers(connection: Connection, extra: Mapping[str, Any]) -> dict[str, str]:
    named = extra.get("headers")
    given = {name: value for name, value in extra.items() if name.lower() not in _NO_HEADERS}
    given |= named if isinstance(named, dict) else {}
    headers = {str(name): str(value) for name, value in given.items() if isinstance(value, (str, int, float))}
    if connection.login or connection.password:
        pair = f"{connection.login or ''}:{connection.password or ''}"
        headers.setdefault("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return headers


def _verify(value: Any) -> bool | str:
    if isinstance(value, str):
        return {"true": True, "": True, "false": False}.get(value.strip().lower(), value)
    return bool(value)


def origin(url: str) -> Origin:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
