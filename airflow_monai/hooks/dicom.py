"""Airflow connections of type ``dicom``: a DICOM node to send to."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.base import DestinationHook
from airflow_monai.hooks.destination_forms import dicom_connection_type as connection_type


class DicomHook(DestinationHook):
    """A DICOM node; its connection test is a C-ECHO.

    :param dicom_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "dicom_conn_id"
    default_conn_name = "dicom_default"
    conn_type = "dicom"
    hook_name = "DICOM node"

    def __init__(self, dicom_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(dicom_conn_id, **kwargs)
        self.dicom_conn_id = dicom_conn_id


__all__ = ["DicomHook", "connection_type"]
