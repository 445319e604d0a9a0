"""From an Airflow connection to a destination, and the Test button of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_monai.errors import DestinationError, MonaiError
from airflow_monai.hooks.connections import aconnection_of, connection_of
from airflow_monai.sinks.base import Destination
from airflow_monai.sinks.registry import SINKS, open_sink

if TYPE_CHECKING:
    from airflow_monai.sinks.base import Sink


def destination(name: str) -> Destination:
    """The destination whose name is the id of an Airflow connection; :class:`DestinationError` when there is none."""
    found = described(name, *connection_of(name, _no_connection(name)))
    if found.conn_type == "monai_broker" and not found.host:
        from airflow_monai.hooks.site_broker import at_the_site_s_broker

        return at_the_site_s_broker(found)
    return found


async def adestination(name: str) -> Destination:
    """As :func:`destination`, for the triggerer."""
    return described(name, *await aconnection_of(name, _no_connection(name)))


def _no_connection(name: str) -> DestinationError:
    return DestinationError(
        f"Destination {name}: there is no Airflow connection {name!r}. Add one of type "
        f"{' or '.join(sorted(SINKS))} under Admin, Connections, or as AIRFLOW_CONN_{name.upper()}."
    )


def described(name: str, connection: Any, extra: Any) -> Destination:
    """What a connection says, one of Airflow's SDK or of its database, whose extra has been read."""
    return Destination(
        name=name,
        conn_type=connection.conn_type or "",
        host=(connection.host or "").strip(),
        port=connection.port,
        extra=extra if isinstance(extra, dict) else {},
        schema=(connection.schema or "").strip(),
        login=connection.login or "",
        password=connection.password or "",
    )


class DestinationHook(BaseHook):
    """Base of the hooks of destinations.

    :param conn_id: id of the Airflow connection, which is the destination's name.
    """

    def __init__(self, conn_id: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def get_conn(self) -> Sink:
        """The sink that delivers there."""
        return open_sink(destination(self.conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """Whether the destination answers, and what it said."""
        try:
            return True, self.get_conn().test()
        except MonaiError as error:
            return False, str(error)
