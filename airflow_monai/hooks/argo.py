"""Airflow connections of type ``argo``: an Argo Server, and the token to use it with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_monai.errors import InvalidArgument, MonaiError, SettingsError
from airflow_monai.hooks.argo_server import ArgoServer
from airflow_monai.hooks.connections import aconnection_of, connection_of
from airflow_monai.hooks.forms import argo_connection_type as connection_type
from airflow_monai.hooks.http_endpoint import Endpoint, endpoint_from
from airflow_monai.hooks.http_hosts import HostRules

if TYPE_CHECKING:
    from airflow.sdk import Connection

DEFAULT_CONNECTION = "argo_default"
DEFAULT_NAMESPACE = "argo"


@dataclass(frozen=True, slots=True)
class ArgoSite:
    """What a connection of type ``argo`` says.

    :param store_path: the store's folder as the cluster's pods see it; empty where it is the same.
    """

    endpoint: Endpoint
    namespace: str = DEFAULT_NAMESPACE
    store_path: str = ""

    def server(self, rules: HostRules, namespace: str = "", cleaned: Callable[[str], str] = str) -> ArgoServer:
        from airflow_monai.hooks.http_client import HttpClient

        return ArgoServer(HttpClient(self.endpoint, rules), namespace or self.namespace, cleaned)


async def argo_site(
    connection: str = "", *, server_url: str = "", token: str = "", allow_insecure: bool = False
) -> ArgoSite:
    """The Argo Server of a task: that of its connection, or the one that the task names.

    :param connection: id of the connection; the default one when this and ``server_url`` are empty.
    :param token: in place of the connection's.
    :raises InvalidArgument: when there is no such connection, or it has no host.
    """
    site = ArgoSite(Endpoint())
    if connection or not server_url:
        site = await _of_connection(connection or DEFAULT_CONNECTION)
    endpoint = site.endpoint
    if server_url:
        own = server_url.rstrip("/")
        # A workflow file names the host: the connection's token is not for any host that a file may name
        endpoint = replace(endpoint, url=own, headers=endpoint.headers_for(own))
    if token:
        endpoint = replace(endpoint, headers=_authorization(token))
    if allow_insecure:
        endpoint = replace(endpoint, verify=False)
    return replace(site, endpoint=endpoint)


async def _of_connection(conn_id: str) -> ArgoSite:
    missing = InvalidArgument(
        f"There is no Airflow connection {conn_id!r}. Add one of type argo under Admin, Connections, or as "
        f"AIRFLOW_CONN_{conn_id.upper()}, or write args.server_url."
    )
    return site_from(*await aconnection_of(conn_id, missing))


def site_from(connection: Connection, extra: Mapping[str, Any]) -> ArgoSite:
    """What a connection says whose extra has been read."""
    if connection.conn_type not in ("argo", "http", "https"):
        raise InvalidArgument(
            f"The Airflow connection {connection.conn_id!r} has the type {connection.conn_type!r}, not argo."
        )
    known = {name: extra[name] for name in ("verify", "cert", "proxy") if name in extra}
    endpoint = replace(endpoint_from(connection, known), headers={})
    if connection.password:
        endpoint = replace(endpoint, headers=_authorization(connection.password))
    return ArgoSite(
        endpoint, str(extra.get("namespace") or DEFAULT_NAMESPACE), str(extra.get("store_path") or "").rstrip("/")
    )


def _authorization(token: str) -> dict[str, str]:
    """A token as ``argo auth token`` prints it, with or without ``Bearer``."""
    token = token.strip()
    return {"Authorization": token if token.lower().startswith(("bearer ", "basic ")) else f"Bearer {token}"}


class ArgoHook(BaseHook):
    """An Argo Server; its connection test lists the workflows of the namespace.

    :param argo_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "argo_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "argo"
    hook_name = "Argo Server"

    def __init__(self, argo_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(**kwargs)
        self.argo_conn_id = argo_conn_id

    def get_conn(self) -> ArgoServer:
        """The server, for coroutines."""
        from airflow_monai import settings

        missing = SettingsError(
            f"There is no Airflow connection {self.argo_conn_id!r}: add one of type argo under Admin, Connections, or "
            f"as AIRFLOW_CONN_{self.argo_conn_id.upper()}."
        )
        site = site_from(*connection_of(self.argo_conn_id, missing))
        return site.server(HostRules.parse(settings.load().http_allowed_hosts))

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server answers and lets us look."""
        try:
            server = self.get_conn()
            asyncio.run(server.find({"monai.none": "none"}))
        except MonaiError as error:
            return False, str(error)
        return True, f"The Argo Server at {server.url} shows its workflows in namespace {server.namespace!r}."


__all__ = ["ArgoHook", "connection_type"]
