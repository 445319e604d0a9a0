"""Airflow connections of type ``monai_folder``: a folder that results are copied to."""

from __future__ import annotations

from typing import Any

from airflow_monai.hooks.base import DestinationHook
from airflow_monai.hooks.destination_forms import folder_connection_type as connection_type


class FolderHook(DestinationHook):
    """A folder of the workers' hosts; its connection test writes a file there.

    :param folder_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "folder_conn_id"
    default_conn_name = "monai_folder_default"
    conn_type = "monai_folder"
    hook_name = "Folder for results"

    def __init__(self, folder_conn_id: str = default_conn_name, **kwargs: Any):
        super().__init__(folder_conn_id, **kwargs)
        self.folder_conn_id = folder_conn_id


__all__ = ["FolderHook", "connection_type"]
