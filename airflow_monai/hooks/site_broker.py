"""An export agent whose connection names no broker is reached by the one of the site."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_monai import settings
from airflow_monai.errors import DestinationError
from airflow_monai.hooks.broker import broker_address
from airflow_monai.sinks.base import Destination


def at_the_site_s_broker(found: Destination) -> Destination:
    """A destination that names no broker, at the one of the site.

    :raises DestinationError: when the site has none.
    """
    conn_id = settings.load_broker().conn_id
    if not conn_id:
        raise DestinationError(
            f"Destination {found.name}: it names no broker, and [monai] broker_conn_id names none. Enter its host in "
            "the connection, or set the option."
        )
    broker = broker_address(conn_id)
    return replace(
        found,
        host=broker.host,
        port=broker.port,
        schema=broker.path,
        login=broker.login,
        password=broker.password,
        extra={**broker.extra, **({"tls": True} if broker.kind == "amqps" else {}), **_given(found.extra)},
    )


def _given(extra: Any) -> dict[str, Any]:
    """What was really entered: a form also sends fields that were left as they were."""
    left_alone = {"exchange": "monaideploy", "tls": False, "check_certificate": True, "check_host": True}
    return {key: value for key, value in extra.items() if value not in (None, "") and value != left_alone.get(key)}
