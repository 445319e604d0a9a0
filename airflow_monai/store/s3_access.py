"""How a bucket is reached: endpoint, credentials, and a client whose waiting and retrying are bounded."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from airflow_monai.errors import SettingsError

CONNECT_SECONDS, READ_SECONDS = 5, 60
TRIES = 4
"""Of one request; between two of them the client waits up to 20 s, longer each time."""
PATIENCE_SECONDS = 30.0
"""After so long a request is not tried again: whoever waits for it hears after one time-out, not after four."""
CONNECTIONS = 40
"""A client's, open at once."""
_BEGAN = "monai_began"
_BY_THE_PROVIDER = ("role_arn", "assume_role_method", "profile_name")


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where a bucket is and who asks. Empty fields are left to boto3's own chain (environment, files, instance role).

    :param endpoint: URL of a service that is not Amazon's.
    :param path_style: bucket names in the path instead of the host name; most services of a hospital's own need it.
    :param verify: False, or the file with the certificates that the endpoint's one is checked by.
    """

    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    secret: str = ""
    token: str = ""
    path_style: bool = False
    verify: bool | str = True

    def __repr__(self) -> str:
        return f"S3Access({self.name!r})"

    @property
    def name(self) -> str:
        """For messages."""
        return self.endpoint or "Amazon S3"


def access_by(conn_id: str) -> S3Access:
    """What the Airflow connection of type ``aws`` says; without one all is left to boto3.

    Its fields are those of Airflow's Amazon provider, which need not be installed: login and password are the key's
    id and secret; extra may have ``endpoint_url``, ``region_name``, ``aws_session_token``, ``verify`` and
    ``config_kwargs: {s3: {addressing_style}}``.

    :raises SettingsError: when there is no such connection, or it asks for what only the Amazon provider can do.
    """
    if not conn_id:
        return S3Access()
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise SettingsError(
            f"[monai] store_conn_id = {conn_id!r}: there is no such Airflow connection. Add one of type aws under "
            f"Admin, Connections, or as AIRFLOW_CONN_{conn_id.upper()}."
        ) from None
    extra = connection.extra_dejson
    return access_of(conn_id, connection.login or "", connection.password or "", extra)


def access_of(name: str, login: str, password: str, extra: Any) -> S3Access:
    """The fields of a connection of type ``aws``; :class:`SettingsError` where they cannot be used.

    :param name: the connection's id, for messages.
    """
    extra = extra if isinstance(extra, Mapping) else {}
    for option in _BY_THE_PROVIDER:
        if extra.get(option):
            raise SettingsError(
                f"The connection {name} has {option!r}, which is not supported here: give the key itself, or leave "
                "it to boto3's own chain (AWS_PROFILE, AWS_ROLE_ARN, the instance's role)."
            )
    service = _mapping(_mapping(extra.get("service_config")).get("s3"))
    endpoint = str(service.get("endpoint_url") or extra.get("endpoint_url") or extra.get("host") or "").rstrip("/")
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise SettingsError(f"The connection {name} has an endpoint_url that is none: it must begin with http(s)://.")
    if "@" in urlsplit(endpoint).netloc:
        raise SettingsError(
            f"The connection {name} has a login in its endpoint_url, and so in every log: use login and password."
        )
    style = _mapping(_mapping(extra.get("config_kwargs")).get("s3")).get("addressing_style")
    own = bool(endpoint) and not (urlsplit(endpoint).hostname or "").endswith("amazonaws.com")
    return S3Access(
        endpoint=endpoint,
        region=str(extra.get("region_name") or ""),
        key_id=login,
        secret=password,
        token=str(extra.get("aws_session_token") or ""),
        path_style=style == "path" if style else own,
        verify=extra.get("verify", True),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def client_of(access: S3Access) -> Any:
    """A boto3 client, one for each process: it is dear to make, and any number of threads may use it."""
    return _client(access, os.getpid())


@lru_cache(maxsize=8)
def _client(access: S3Access, pid: int) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise SettingsError("A store in a bucket needs boto3: pip install 'airflow-monai[s3]'.") from None
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        s3={"addressing_style": "path" if access.path_style else "auto"},
    )
    session = boto3.session.Session(
        aws_access_key_id=access.key_id or None,
        aws_secret_access_key=access.secret or None,
        aws_session_token=access.token or None,
        # a service of one's own has no regions, but its requests are signed with one
        region_name=access.region or ("us-east-1" if access.endpoint else None),
    )
    client = session.client("s3", endpoint_url=access.endpoint or None, verify=access.verify, config=config)
    client.meta.events.register("before-call.s3", _begins)
    client.meta.events.register_first("needs-retry.s3", _has_patience)
    return client


def _begins(context: dict[str, Any], **_: Any) -> None:
    """Called by boto3 before the first try of a request."""
    context[_BEGAN] = time.monotonic()


def _has_patience(request_dict: Mapping[str, Any], **_: Any) -> bool | None:
    """Called by boto3 after each try, before it decides on another; False means that there is none."""
    began = request_dict.get("context", {}).get(_BEGAN, math.inf)
    return False if time.monotonic() - began > PATIENCE_SECONDS else None
