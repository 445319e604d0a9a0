"""The forms of this package's connection types, as Airflow's provider info wants them; imports nothing."""

from __future__ import annotations

from typing import Any


def dicom_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a DICOM node."""
    return {
        "connection-type": "dicom",
        "hook-class-name": "airflow_monai.hooks.dicom.DicomHook",
        "hook-name": "DICOM node",
        "conn-fields": {
            "called_aet": _text("Called AE title", "The node's own AE title.", "ANY-SCP"),
            "calling_aet": _text("Calling AE title", "The AE title that we use; the node must know it.", "MONAI"),
            "connect_timeout": _seconds("Connect time-out (s)", "For the connection and the association.", 10),
            "response_timeout": _seconds("Response time-out (s)", "Without any progress, for one instance.", 30),
            "allow_other_study": _flag(
                "Allow other studies", "Also deliver results that belong to another study or patient than the input."
            ),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "login", "password"],
            "relabeling": {"host": "Host", "port": "DICOM port"},
            "placeholders": {"host": "pacs.example.org", "port": "11112"},
        },
    }


def folder_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a folder."""
    return {
        "connection-type": "monai_folder",
        "hook-class-name": "airflow_monai.hooks.folder.FolderHook",
        "hook-name": "Folder for results",
        "conn-fields": {
            "path": _text("Folder", "Absolute path of the folder on the workers."),
            "overwrite": _flag("Overwrite", "Replace a file of the same name and other content."),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["host", "schema", "login", "password", "port"],
            "relabeling": {},
            "placeholders": {"path": "/mnt/results"},
        },
    }


def argo_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for an Argo Server."""
    return {
        "connection-type": "argo",
        "hook-class-name": "airflow_monai.hooks.argo.ArgoHook",
        "hook-name": "Argo Server",
        "conn-fields": {
            "namespace": _text("Namespace", "Where workflows are started, unless a task says another.", "argo"),
            "store_path": _text(
                "Store in the cluster", "Folder of the store as the cluster's pods see it. Empty: the same as here."
            ),
            "verify": _text(
                "Certificate check", "true, false, or the file of the certificate authority to check with.", "true"
            ),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["login"],
            "relabeling": {"host": "Server", "password": "Token", "schema": "http or https"},
            "placeholders": {"host": "argo-server.argo", "schema": "https", "port": "2746"},
        },
    }


def _text(label: str, description: str, default: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"]}
    return {"label": label, "description": description, "schema": schema | ({"default": default} if default else {})}


def _seconds(label: str, description: str, default: float) -> dict[str, Any]:
    schema = {"type": ["number", "null"], "default": default}
    return {"label": label, "description": description, "schema": schema}


def _flag(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["boolean", "null"], "default": False}}
