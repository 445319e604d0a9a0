"""Exports that a gateway elsewhere makes, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from airflow_monai.broker.events.base import Event, Id, Items, NamedOrNumbered
from airflow_monai.broker.events.requests import DataOrigin, Path


class ExportStatus(NamedOrNumbered):
    """What became of an export."""

    SUCCESS = "Success"
    FAILURE = "Failure"
    PARTIAL_FAILURE = "PartialFailure"
    UNKNOWN = "Unknown"


class FileExportStatus(NamedOrNumbered):
    """What became of one of its files."""

    SUCCESS = "Success"
    CONFIGURATION_ERROR = "ConfigurationError"
    UNSUPPORTED_DATA_TYPE = "UnsupportedDataType"
    SERVICE_ERROR = "ServiceError"
    DOWNLOAD_ERROR = "DownloadError"
    UNKNOWN = "Unknown"


class _Export(Event):
    workflow_instance_id: Id
    export_task_id: Id
    correlation_id: Id
    files: Items[Path] = Field(min_length=1)
    message_id: str = ""
    delivery_tag: str = ""
    error_messages: Items[str] = ()
    plug_in_assemblies: Items[str] = ()


class ExportRequestEvent(_Export):
    """A gateway shall send files.

    :param files: paths in its bucket.
    :param destinations: names of destinations that it knows.
    """

    destinations: Items[Id] = Field(min_length=1)
    payload_id: str | None = None
    target: DataOrigin | None = Field(default=None, serialization_alias="Target")


class ExternalAppRequestEvent(_Export):
    """A gateway shall send files to an application, and take in what that sends back."""

    targets: Items[DataOrigin] = Field(default=(), serialization_alias="Targets")
    destination_folder: str | None = None
    status: ExportStatus = ExportStatus.UNKNOWN
    message: str = ""
    file_statuses: dict[str, FileExportStatus] = Field(default_factory=dict)


class ExportCompleteEvent(Event):
    """What became of an export.

    :param file_statuses: path in the bucket -> what became of the file; may be empty, also when all went well.
    """

    spellings: ClassVar[Mapping[str, str]] = {"fileStatuses": "file_statuses"}

    workflow_instance_id: Id
    export_task_id: Id
    status: ExportStatus
    message: str = ""
    file_statuses: dict[str, FileExportStatus] = Field(default_factory=dict)
