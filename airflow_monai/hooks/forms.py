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


def rabbitmq_connection_type() -> dict[str, Any]:
    """The entry of ``connection-types`` for a message broker."""
    return {
        "connection-type": "monai_rabbitmq",
        "hook-class-name": "airflow_monai.hooks.broker.RabbitMqHook",
        "hook-name": "Message broker (RabbitMQ)",
        "conn-fields": {
            "exchange": _text("Exchange", "Topic exchange of the messages.", "monaideploy"),
            "dead_letter_exchange": _text(
                "Dead-letter exchange", "Empty: the exchange's name with -dead-letter behind it."
            ),
            "prefetch": _seconds("Prefetch", "Messages of a queue that a gateway may hold at a time.", 50),
            "delivery_limit": _seconds(
                "Delivery limit",
                "After so many deliveries, each to a gateway that died with it, a message is a dead letter. Only for "
                "queues that do not exist yet.",
                20,
            ),
            "heartbeat": _seconds("Heartbeat (s)", "A broker that is silent for twice as long counts as away.", 10),
            "tls": _flag("TLS", "Speak TLS; the port is 5671 then, unless another is given."),
            "verify": _flag("Check certificate", "Check the broker's certificate and name.", default=True),
            "ca_file": _text("Authority", "File of the certificate authority. Empty: those of the system."),
            "cert_file": _text("Client certificate", "File of the certificate that we show. Empty: none."),
            "key_file": _text("Client key", "File of its key."),
        },
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {"schema": "Virtual host"},
            "placeholders": {"host": "rabbitmq.example.org", "port": "5672", "schema": "monaideploy"},
        },
    }


def _text(label: str, description: str, default: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"]}
    return {"label": label, "description": description, "schema": schema | ({"default": default} if default else {})}


def _seconds(label: str, description: str, default: float) -> dict[str, Any]:
    schema = {"type": ["number", "null"], "default": default}
    return {"label": label, "description": description, "schema": schema}


def _flag(label: str, description: str, default: bool = False) -> dict[str, Any]:
    schema = {"type": ["boolean", "null"], "default": default}
    return {"label": label, "description": description, "schema": schema}
