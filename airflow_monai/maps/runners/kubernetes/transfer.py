"""What a pod has more when it shares no folder with the workers: two volumes, and who fills and empties them.

Before the application an init container brings the input from the bucket. Beside it a container waits until a worker
asks for the output (:mod:`airflow_monai.maps.handover`). That the application has ended, and how, the worker knows from
the cluster, so its command is not wrapped, its exit code stays the verdict, an image needs no shell, and the pod needs
no right in the cluster. It works on every Kubernetes from 1.20 on, whose containers of a pod have no order at the end.

The application must not get at the bucket's credentials: they are in the environment of the two steps only, and the
containers of such a pod see no processes of each other.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError, SettingsError
from airflow_monai.maps.handover import Plan
from airflow_monai.maps.job import staging_beside
from airflow_monai.maps.runners.base import MapJob, Mount
from airflow_monai.maps.runners.kubernetes.settings import KubernetesSettings
from airflow_monai.maps.runners.kubernetes.status import FETCHER, PUBLISHER
from airflow_monai.maps.transfer import FOLDER, INPUT, OUTPUT, POD

INPUT_VOLUME, OUTPUT_VOLUME = "input", "output"
LABEL = {"monai.transfer": "s3"}
"""What a NetworkPolicy selects that lets pods reach the bucket."""

PUBLISH_SECONDS = 3600
"""For how long after its time limit a pod waits to be asked for its output."""

_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a pod finds its input, and where its output goes.

    :param url: of the store.
    :param key: of the task's output; what is told between worker and pod lies beside it.
    """

    url: str
    key: str


def bucket_of(job: MapJob, site: KubernetesSettings) -> Bucket | None:
    """None where pods use a volume that the workers have too."""
    if not site.transfer_image or job.notes is None:
        return None
    if not site.store_secret:
        raise SettingsError(
            "[monai] kubernetes_transfer_image needs kubernetes_store_secret: the Secret in the pods' namespace with "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a service that is not Amazon's, AWS_ENDPOINT_URL_S3."
        )
    return Bucket(job.notes.store.url, job.notes.key)


def plan_of(job: MapJob) -> Plan:
    """What is laid out for the job before its application starts."""
    staging = staging_beside(job.output)
    within = [place_of(job, mount) for mount in job.mounts]
    return Plan(
        files=[(key, path.relative_to(staging).as_posix()) for key, path in job.fetched],
        inputs=[below for volume, below in within if volume == INPUT_VOLUME and below],
        outputs=[below for volume, below in within if volume == OUTPUT_VOLUME and below],
    )


def place_of(job: MapJob, mount: Mount) -> tuple[str, str]:
    """The volume that stands for a folder of the worker, and where in it; two empty texts for another folder."""
    for volume, top in ((INPUT_VOLUME, staging_beside(job.output)), (OUTPUT_VOLUME, job.output)):
        if mount.source.is_relative_to(top):
            return volume, _plain(mount.source, top)
    return "", ""


def mount_of(job: MapJob, mount: Mount) -> dict[str, Any]:
    """How the application sees such a folder."""
    volume, below = place_of(job, mount)
    if not volume:
        raise MapError(f"{mount.source} is no folder of the task: a pod cannot get at it.")
    path = posixpath.join(FOLDER, below) if below else FOLDER
    return {"name": volume, "mountPath": mount.target, "subPath": path, "readOnly": mount.read_only}


def volumes_of(job: MapJob) -> list[dict[str, Any]]:
    limit = job.confinement.output_bytes
    size = {} if limit is None else {"sizeLimit": str(limit)}
    return [
        {"name": INPUT_VOLUME, "emptyDir": {}},
        {"name": OUTPUT_VOLUME, "emptyDir": size},
        {"name": "transfer-tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]


def steps(bucket: Bucket, site: KubernetesSettings, security: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """The container that runs before the application, and the one that runs beside it."""
    return tuple(_step(name, bucket, site, security) for name in (FETCHER, PUBLISHER))


def _step(name: str, bucket: Bucket, site: KubernetesSettings, security: Mapping[str, Any]) -> dict[str, Any]:
    mounts = [
        {"name": OUTPUT_VOLUME, "mountPath": OUTPUT},
        {"name": "transfer-tmp", "mountPath": "/tmp"},
    ]
    if name == FETCHER:
        mounts.insert(0, {"name": INPUT_VOLUME, "mountPath": INPUT})
    return {
        "name": name,
        "image": site.transfer_image,
        "imagePullPolicy": site.pull_policy,
        "command": ["python3", "-m", "airflow_monai.maps.transfer", name, bucket.url, bucket.key],
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
            {"name": POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
        "envFrom": [{"secretRef": {"name": site.store_secret}}],
        "workingDir": "/tmp",
        "resources": _RESOURCES,
        "securityContext": dict(security),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # its last words are meant for whoever reads the status
    }


def _plain(path: Path, top: Path) -> str:
    below = path.relative_to(top).as_posix()
    return "" if below == "." else below
