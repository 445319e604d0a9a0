"""Airflow connections of type ``monai_pull``: results wait for a client elsewhere that fetches them."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.base import DestinationHook
from airflow_monai.hooks.destination_forms import pull_connection_type as connection_type


class PullHook(DestinationHook):
    """A sink that export clients fetch from; its connection test says where they do.

    :param pull_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "pull_conn_id"
    default_conn_name = "monai_pull_default"
    conn_type = "monai_pull"
    hook_name = "Export client (fetches)"

    def __init__(self, pull_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(pull_conn_id, **kwargs)
        self.pull_conn_id = pull_conn_id


__all__ = ["PullHook", "connection_type"]
