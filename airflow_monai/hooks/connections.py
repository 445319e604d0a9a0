"""Reading an Airflow connection, in a worker and in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_monai.errors import MonaiError

Found = tuple["Connection", dict[str, Any]]
"""A connection and its extra."""


def connection_of(conn_id: str, missing: MonaiError) -> Found:
    """The connection of an id.

    :param missing: raised when there is none.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise missing from None
    return connection, _mapping(connection.extra_dejson)


async def aconnection_of(conn_id: str, missing: MonaiError) -> Found:
    """As :func:`connection_of`, for the triggerer."""
    try:
        connection = await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        raise missing from None
    return connection, _mapping(await connection.aextra_dejson())


def _mapping(extra: Any) -> dict[str, Any]:
    return extra if isinstance(extra, dict) else {}
