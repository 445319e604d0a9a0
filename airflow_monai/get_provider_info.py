"""What Airflow is told about this package (entry point ``apache_airflow_provider``).

Every Airflow process calls this at start, so it is plain data and what it imports is too.
"""

from __future__ import annotations

from typing import Any

from airflow_monai import __version__
from airflow_monai.hooks.forms import argo_connection_type, dicom_connection_type, folder_connection_type

INTEGRATION = "MONAI Deploy"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, as ``airflow/provider_info.schema.json`` of the Airflow package defines it."""
    return {
        "package-name": "airflow-monai",
        "name": "MONAI",
        "description": "Clinical imaging-AI workflows: DICOM in, MONAI Application Packages, DICOM out.",
        "versions": [__version__],
        "integrations": [{"integration-name": INTEGRATION, "external-doc-url": "https://monai.io", "tags": ["health"]}],
        "hooks": _modules("hooks.dicom", "hooks.folder", "hooks.argo"),
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
        "sensors": _modules("sensors.payload"),
        "triggers": _modules(
            "triggers.batch",
            "triggers.gate",
            "triggers.http",
            "triggers.http_async",
            "triggers.argo",
            "triggers.payload",
            "triggers.email",
        ),
        "bundles": _modules("bundles.workflow_folder"),
        "connection-types": [dicom_connection_type(), folder_connection_type(), argo_connection_type()],
        "extra-links": [
            "airflow_monai.operators.links.ReviewedTaskLink",
            "airflow_monai.operators.links.ArgoWorkflowLink",
        ],
        "cli": ["airflow_monai.cli.definition.get_cli_commands"],
        "config": {"monai": {"description": "Settings of the package airflow-monai.", "options": _options()}},
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": INTEGRATION, "python-modules": [f"airflow_monai.{name}" for name in names]}]


def _options() -> dict[str, Any]:
    return {
        "store": _option(
            "Folder of the store, where payloads, artifacts and records are kept. Every component needs it under the "
            "same name.",
            default="{AIRFLOW_HOME}/monai-store",
            example="/data/monai",
        ),
        "workflow_folder": _option(
            "Folder of the workflow specs (YAML or JSON), read by the gateway and the DAG bundle.",
            default="{AIRFLOW_HOME}/workflow_specs",
            example="/etc/monai/workflow_specs",
        ),
        "runner": _option(
            "What runs MAPs: docker (a container for each task) or process (a sandboxed process on the worker, for "
            "laptops and tests).",
            default="docker",
            example="process",
        ),
        "map_path": _option(
            "Folders, separated by the path separator of the system, in which the process runner looks for unpacked "
            "MAPs: <folder>/<name>/app.json.",
            example="/opt/maps:/srv/maps",
        ),
        "docker_conn_id": _option(
            "Airflow connection of type docker to the engine that runs MAPs. Empty: the engine at docker_url.",
            example="docker_gpu01",
        ),
        "docker_url": _option(
            "Address of the Docker engine when docker_conn_id is empty.",
            default="unix:///var/run/docker.sock",
            example="tcp://gpu01:2376",
        ),
        "container_user": _option(
            "uid:gid that containers run as. Empty: the worker's own, or 1000:1000 where the worker is root.",
            example="1000:1000",
        ),
        "api_conn_id": _option(
            "Airflow connection of type http to Airflow's REST API, through which the gateway creates runs.",
            default="monai_airflow",
            example="monai_airflow",
        ),
        "dicom_host": _option(
            "Address that the gateway listens on for DICOM associations.", default="0.0.0.0", example="10.1.2.3"
        ),
        "dicom_port": _option("Port of the same.", default="11112", example="104", type_="integer"),
        "quiet_seconds": _option(
            "A study is complete when no image of it came for so many seconds. A workflow may say its own "
            "(informatics_gateway.quiet_seconds).",
            default="10.0",
            example="60",
            type_="float",
        ),
        "http_allowed_hosts": _option(
            "Hosts that http and http_async tasks may call, separated by commas: names with * for anything, addresses, "
            "networks. Empty: every host, except link-local and cloud metadata addresses, which only a network that is "
            "listed here opens.",
            example="*.hospital.example, 10.1.0.0/16",
        ),
        "task_log": _option(
            "What of an application's output the task log in Airflow shows: filtered (line by line, with what may be "
            "patient data masked), tail (the same, the last lines, when it fails), none. The store keeps all of it.",
            default="filtered",
            example="tail",
        ),
        "gpu_lease_folder": _option(
            "Folder on a disk of the host that has the cards, where its workers keep which job has which card. All "
            "workers of a host need the same one, those in containers too; no two hosts may share one.",
            default="{AIRFLOW_HOME}/monai-gpu-leases",
            example="/var/lib/airflow-monai/gpu-leases",
        ),
        "gpu_host": _option(
            "Name of this worker's host in the GPU inventory. Empty: the host's own name, or the only host there is.",
            example="gpu01",
        ),
        "gpu_wait_minutes": _option(
            "How long a task that has its pool slots waits for a card on its host. Then it gives the slots back and "
            "asks again half a minute later, without losing a try or its place in the queue.",
            default="10.0",
            example="30",
            type_="float",
        ),
        "smtp_conn_id": _option(
            "Airflow connection of type smtp by which tasks of type email send.",
            default="smtp_default",
            example="smtp_hospital",
        ),
        "reviewer_roles": _option(
            "Who has which role in clinical reviews: JSON, role to a list of user ids as the auth manager knows them. "
            "A review for roles that are named here can be answered by these users only.",
            example='{"radiologist": ["anna", "ben"]}',
        ),
        "recipient_roles": _option(
            "Where e-mails to a role go: JSON, role to a list of addresses.",
            example='{"radiologist": ["reading-room@hospital.example"]}',
        ),
    }


def _option(description: str, *, default: str = "", example: str, type_: str = "string") -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": type_,
        "example": example,
        "default": default,
    }
