"""Airflow connections of type ``monai_mllp``: a listener that HL7 v2 messages are sent to."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.base import DestinationHook
from airflow_monai.hooks.destination_forms import mllp_connection_type as connection_type


class MllpHook(DestinationHook):
    """An HL7 v2 listener; its connection test connects and sends nothing.

    :param mllp_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "mllp_conn_id"
    default_conn_name = "monai_mllp_default"
    conn_type = "monai_mllp"
    hook_name = "HL7 v2 listener (MLLP)"

    def __init__(self, mllp_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(mllp_conn_id, **kwargs)
        self.mllp_conn_id = mllp_conn_id


__all__ = ["MllpHook", "connection_type"]
