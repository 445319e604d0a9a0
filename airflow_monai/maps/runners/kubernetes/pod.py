"""A job as a pod: what its container may use, see and do.

Plain data as the API has it, with no client library, so that it can be read, tested and written to a file as it is.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError, PolicyRefused, SettingsError
from airflow_monai.maps.policy import NO_NETWORK
from airflow_monai.maps.runners.base import STOP_GRACE_SECONDS, MapJob, Mount, with_deadline
from airflow_monai.maps.runners.folders import default_user
from airflow_monai.maps.runners.kubernetes import transfer
from airflow_monai.maps.runners.kubernetes.settings import GPU_RESOURCE, GpuClass, KubernetesSettings
from airflow_monai.maps.runners.kubernetes.status import CONTAINER
from airflow_monai.maps.runners.scratch import scratch_folders
from airflow_monai.maps.runners.visible_cards import with_visible_cards

MANAGED_BY = {"app.kubernetes.io/managed-by": "airflow-monai"}
NETWORK_LABEL = "monai.network"
DEADLINE_SLACK_SECONDS = 600
"""How much later than this worker Kubernetes itself ends a pod that nobody looks after any more."""

_PLAIN_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?|")
_STORE, _TMP, _SHM = "store", "tmp", "shm"


@dataclass(frozen=True, slots=True)
class Placed:
    """What a pod needs to know beside its job.

    :param store: folder of the store on this host.
    :param bucket: of a pod that brings its input and output itself; None where it uses the volume of the store.
    :param card_mig: MIG profile of the cards that the task's pool stands for; empty for whole cards.
    """

    site: KubernetesSettings
    store: Path
    card_mig: str = ""
    bucket: transfer.Bucket | None = None


@dataclass(slots=True)
class _Volumes:
    """Volumes and mounts of one container, as they come together."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def memory(self, name: str, target: str, size: int) -> None:
        self.add(name, {"emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}, target)

    def disk(self, name: str, target: str, size: int) -> None:
        self.add(name, {"emptyDir": {"sizeLimit": str(size)}}, target)

    def add(self, name: str, source: Mapping[str, Any], target: str, **how: Any) -> None:
        if not any(volume["name"] == name for volume in self.volumes):
            self.volumes.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": target, **how})


def pod_name(name: str) -> str:
    """A job's name as Kubernetes allows it: lower case, 63 characters; another name stays another one."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:46].strip("-") or "job"
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def label_value(value: str) -> str:
    """A value as Kubernetes allows it: one that does not fit is a hash of itself."""
    if _LABEL_VALUE.fullmatch(value):
        return value
    return f"sha256-{hashlib.sha256(value.encode()).hexdigest()[:40]}"


def selector(labels: Mapping[str, str]) -> str:
    """The query for pods with all these labels."""
    return ",".join(f"{name}={label_value(value)}" for name, value in sorted(labels.items()))


def pod_manifest(job: MapJob, placed: Placed) -> dict[str, Any]:
    """The pod that runs a job.

    :raises MapError: when the job needs what a pod cannot have.
    :raises SettingsError: when the site did not say where the store lies for pods.
    """
    manifest = job.found.manifest
    volumes = _volumes(job, placed)
    if job.secrets:
        raise PolicyRefused(
            f"{job.found.reference} would get {', '.join(sorted(job.secrets))} by the pod's spec, which everybody can "
            "read who may look at pods. Give the application a Secret of the cluster."
        )
    environment = {"HOME": "/tmp", **with_visible_cards(job.environment, job)}
    labels = with_deadline(job, placed.site.pending_seconds)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": job.found.location,
        "imagePullPolicy": placed.site.pull_policy,
        # not the image's own entry point: that one exits 0 when the application fails
        "command": [_literal(job.command[0])],
        "args": [_literal(word) for word in job.command[1:]],
        "env": [{"name": name, "value": _literal(value)} for name, value in environment.items()],
        "resources": _resources(job, placed),
        "securityContext": container_security(job.confinement.capabilities),
        "volumeMounts": volumes.mounts,
        "terminationMessagePolicy": "File",  # never lines of the log, which the pod's status would tell
    }
    if manifest.working_directory:
        container["workingDir"] = manifest.working_directory
    pod = bare_pod(
        pod_name(job.name),
        placed.site,
        container,
        user=job.user or default_user(""),
        labels={**labels, NETWORK_LABEL: job.confinement.network},
        gpu=_gpu_class(job, placed.site) if job.gpus else None,
    )
    pod["metadata"]["annotations"] |= labels  # as they are, where a label had to be shortened
    spec = pod["spec"]
    spec["volumes"] = volumes.volumes
    if job.timeout_seconds is not None:
        spec["activeDeadlineSeconds"] = _deadline(job.timeout_seconds, placed.site)
    spec["terminationGracePeriodSeconds"] = max(ceil(job.confinement.grace_seconds), STOP_GRACE_SECONDS)
    if job.confinement.network != NO_NETWORK:
        del spec["dnsConfig"]
        spec["dnsPolicy"] = "ClusterFirst"
    if placed.bucket is not None:
        _add_transfer(pod, job, placed.site, placed.bucket)
    return pod


def _add_transfer(pod: dict[str, Any], job: MapJob, site: KubernetesSettings, bucket: transfer.Bucket) -> None:
    """Let the pod bring its input and output itself."""
    spec = pod["spec"]
    before, beside = transfer.steps(bucket, site, container_security())
    spec["initContainers"] = [before]
    spec["containers"].append(beside)
    spec["volumes"] += transfer.volumes_of(job)
    spec["shareProcessNamespace"] = False  # the application could read the bucket's credentials
    spec.pop("dnsConfig", None)
    spec["dnsPolicy"] = "ClusterFirst"
    if "activeDeadlineSeconds" in spec:
        spec["activeDeadlineSeconds"] += transfer.PUBLISH_SECONDS
    pod["metadata"]["labels"] |= transfer.LABEL


def bare_pod(
    name: str,
    site: KubernetesSettings,
    container: dict[str, Any],
    *,
    user: str,
    labels: Mapping[str, str],
    gpu: GpuClass | None = None,
) -> dict[str, Any]:
    """A pod with one container as the site wants its pods to be, and as shut in as Kubernetes can make it."""
    gpu = gpu or GpuClass()
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [container],
        "securityContext": _pod_security(user, site),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,  # who reaps processes and may be signalled is not the application itself
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},  # it asks nobody; one must be named
        "nodeSelector": {**site.node_selector, **gpu.node_selector},
        "tolerations": [*site.tolerations, *gpu.tolerations],
        "imagePullSecrets": [{"name": secret} for secret in site.pull_secrets],
    }
    for key, value in (
        ("serviceAccountName", site.service_account),
        ("priorityClassName", site.priority_class),
        ("runtimeClassName", site.runtime_class),
    ):
        if value:
            spec[key] = value
    fitting = {key: label_value(value) for key, value in {**labels, **MANAGED_BY, **site.labels}.items()}
    metadata = {"name": name, "labels": fitting, "annotations": dict(site.annotations)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def container_security(capabilities: Iterable[str] = ()) -> dict[str, Any]:
    allowed = list(capabilities)
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], **({"add": allowed} if allowed else {})},
    }


def gpu_resource(card_class: GpuClass, mig: str) -> str:
    """What a device plugin calls these cards: ``nvidia.com/gpu``, or ``nvidia.com/mig-1g.10gb`` for slices."""
    if card_class.resource:
        return card_class.resource
    return f"nvidia.com/mig-{mig.replace('+', '.')}" if mig else GPU_RESOURCE


def _pod_security(user: str, site: KubernetesSettings) -> dict[str, Any]:
    uid, _, gid = user.partition(":")
    context: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if uid.isdigit():
        context |= {"runAsUser": int(uid), "runAsNonRoot": int(uid) != 0}
    if gid.isdigit():
        context["runAsGroup"] = int(gid)
    if site.fs_group is not None:
        context |= {"fsGroup": site.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    return context


def _literal(text: str) -> str:
    """The text so that Kubernetes, which replaces ``$(NAME)`` in commands and values, leaves it as it is."""
    return text.replace("$(", "$$(")


def _resources(job: MapJob, placed: Placed) -> dict[str, Any]:
    amounts: dict[str, str] = {
        "cpu": f"{max(1, ceil(job.resources.cpu * 1000))}m",
        "memory": str(job.resources.memory_bytes),
    }
    if job.gpus:
        amounts[gpu_resource(_gpu_class(job, placed.site), placed.card_mig)] = str(job.gpus)
    return {"requests": amounts, "limits": dict(amounts)}


def _gpu_class(job: MapJob, site: KubernetesSettings) -> GpuClass:
    return site.gpu_classes.get(job.card_class) or GpuClass()


def _deadline(limit: float, site: KubernetesSettings) -> int:
    """Seconds from the moment that a node has the pod; they include the time for the image."""
    return ceil(limit + site.pending_seconds) + DEADLINE_SLACK_SECONDS


def _volumes(job: MapJob, placed: Placed) -> _Volumes:
    volumes = _Volumes()
    volumes.memory(_SHM, "/dev/shm", job.resources.shared_memory_bytes)
    # on the node's disk: in memory it would count against the application's limit
    volumes.disk(_TMP, "/tmp", placed.site.tmp_bytes)
    for number, target in enumerate(scratch_folders(job)):
        volumes.memory(f"scratch-{number}", target, job.resources.memory_bytes)
    if placed.site.store_volume is None and placed.bucket is None:
        raise SettingsError(
            "[monai] kubernetes_store_volume says nothing: pods need it to get at the store. Give the claim that the "
            'workers mount, as in {"claim": "monai", "path": "store"}, or {"hostPath": "/data/monai"}. If the store is '
            "in a bucket they can do without: see kubernetes_transfer_image."
        )
    allowed = {source for source, _ in job.confinement.mounts}
    for number, mount in enumerate(job.mounts):
        if str(mount.source) in allowed:  # a folder of the node, which the site's policy allows
            host = {"hostPath": {"path": str(mount.source), "type": "Directory"}}
            volumes.add(f"host-{number}", host, mount.target, readOnly=True)
            continue
        if placed.bucket is not None:
            volumes.mounts.append(transfer.mount_of(job, mount))
            continue
        assert placed.site.store_volume is not None
        how = {"subPath": _sub_path(mount, placed), "readOnly": mount.read_only}
        volumes.add(_STORE, placed.site.store_volume.source, mount.target, **how)
    return volumes


def _sub_path(mount: Mount, placed: Placed) -> str:
    """Where in the volume a folder of the store lies."""
    try:
        below = mount.source.relative_to(placed.store).as_posix()
    except ValueError:
        raise MapError(f"{mount.source} is not in the store {placed.store}: a pod cannot get at it.") from None
    assert placed.site.store_volume is not None
    return posixpath.join(placed.site.store_volume.path, below)
