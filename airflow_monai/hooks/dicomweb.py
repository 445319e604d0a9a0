"""Airflow connections of type ``monai_dicomweb``: a DICOMweb server to send to."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.base import DestinationHook
from airflow_monai.hooks.destination_forms import dicomweb_connection_type as connection_type


class DicomWebHook(DestinationHook):
    """A DICOMweb server; its connection test is a query for a study that cannot be.

    :param dicomweb_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "dicomweb_conn_id"
    default_conn_name = "monai_dicomweb_default"
    conn_type = "monai_dicomweb"
    hook_name = "DICOMweb server"

    def __init__(self, dicomweb_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(dicomweb_conn_id, **kwargs)
        self.dicomweb_conn_id = dicomweb_conn_id


__all__ = ["DicomWebHook", "connection_type"]
