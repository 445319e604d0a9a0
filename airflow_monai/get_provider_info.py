"""What Airflow is told about this package (entry point ``apache_airflow_provider``).

Every Airflow process calls this at start, so it is plain data and what it imports is too.
"""

from __future__ import annotations

from typing import Any

from airflow_monai import __version__
from airflow_monai.hooks.destination_forms import (
    broker_connection_type,
    dicom_connection_type,
    dicomweb_connection_type,
    folder_connection_type,
    mllp_connection_type,
    pull_connection_type,
    s3_connection_type,
)
from airflow_monai.hooks.forms import (
    argo_connection_type,
    kafka_connection_type,
    kubemq_connection_type,
    pubsub_connection_type,
    rabbitmq_connection_type,
)
from airflow_monai.options import all_options

INTEGRATION = "MONAI Deploy"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, as ``airflow/provider_info.schema.json`` of the Airflow package defines it."""
    return {
        "package-name": "airflow-monai",
        "name": "MONAI",
        "description": "Clinical imaging-AI workflows: DICOM in, MONAI Application Packages, DICOM out.",
        "versions": [__version__],
        "integrations": [{"integration-name": INTEGRATION, "external-doc-url": "https://monai.io", "tags": ["health"]}],
        "hooks": _modules(
            "hooks.dicom",
            "hooks.dicomweb",
            "hooks.folder",
            "hooks.s3",
            "hooks.mllp",
            "hooks.argo",
            "hooks.broker",
            "hooks.export_agent",
            "hooks.pull",
        ),
        "operators": _modules(
            "operators.batch",
            "operators.map",
            "operators.container",
            "operators.export",
            "operators.gate",
            "operators.http",
            "operators.argo",
            "operators.review",
            "operators.email",
            "operators.remote_app",
        ),
        "sensors": _modules("sensors.payload", "sensors.export", "sensors.pacs", "sensors.store_files"),
        "triggers": _modules(
            "triggers.batch",
            "triggers.gate",
            "triggers.http",
            "triggers.http_async",
            "triggers.remote_app",
            "triggers.argo",
            "triggers.payload",
            "triggers.export",
            "triggers.pacs",
            "triggers.store_files",
            "triggers.email",
        ),
        "bundles": _modules("bundles.workflow_folder"),
        "connection-types": [
            dicom_connection_type(),
            dicomweb_connection_type(),
            folder_connection_type(),
            s3_connection_type(),
            mllp_connection_type(),
            broker_connection_type(),
            pull_connection_type(),
            argo_connection_type(),
            rabbitmq_connection_type(),
            kafka_connection_type(),
            kubemq_connection_type(),
            pubsub_connection_type(),
        ],
        "extra-links": [
            "airflow_monai.operators.links.ReviewedTaskLink",
            "airflow_monai.operators.links.ArgoWorkflowLink",
            "airflow_monai.operators.links.ArtifactsLink",
            "airflow_monai.operators.links.ApplicationLink",
        ],
        "cli": ["airflow_monai.cli.definition.get_cli_commands"],
        "config": {"monai": {"description": "Settings of the package airflow-monai.", "options": all_options()}},
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": INTEGRATION, "python-modules": [f"airflow_monai.{name}" for name in names]}]
