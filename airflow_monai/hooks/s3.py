"""Airflow connections of type ``monai_s3``: a bucket that results are written to."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.base import DestinationHook
from airflow_monai.hooks.destination_forms import s3_connection_type as connection_type


class S3Hook(DestinationHook):
    """A bucket; its connection test writes an object there and removes it.

    :param s3_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "s3_conn_id"
    default_conn_name = "monai_s3_default"
    conn_type = "monai_s3"
    hook_name = "Bucket for results (S3)"

    def __init__(self, s3_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(s3_conn_id, **kwargs)
        self.s3_conn_id = s3_conn_id


__all__ = ["S3Hook", "connection_type"]
