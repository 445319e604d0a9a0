"""Airflow connections of type ``monai_broker``: a gateway elsewhere that exports when a message asks it to."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.base import DestinationHook
from airflow_monai.hooks.destination_forms import broker_connection_type as connection_type


class ExportAgentHook(DestinationHook):
    """A gateway elsewhere; its connection test logs in at the broker between.

    :param agent_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "agent_conn_id"
    default_conn_name = "monai_export_agent"
    conn_type = "monai_broker"
    hook_name = "Export agent (by broker)"

    def __init__(self, agent_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(agent_conn_id, **kwargs)
        self.agent_conn_id = agent_conn_id


__all__ = ["ExportAgentHook", "connection_type"]
