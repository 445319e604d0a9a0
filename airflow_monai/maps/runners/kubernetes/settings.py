"""The ``[monai] kubernetes_*`` options: which cluster, where the store lies for its pods, and how pods are placed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_monai import settings
from airflow_monai.errors import SettingsError
from airflow_monai.specs.units import memory_bytes

PULL_POLICIES = {"never": "Never", "missing": "IfNotPresent", "always": "Always"}
"""``[monai] image_pull`` -> what Kubernetes calls it."""

GPU_RESOURCE = "nvidia.com/gpu"
_VOLUMES = ("claim", "hostPath", "nfs")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class StoreVolume:
    """How pods get at the store.

    :param source: of the volume, as a pod's ``volumes`` have it, without name.
    :param path: where in the volume the store lies; empty for its root.
    """

    source: Mapping[str, Any]
    path: str = ""


@dataclass(frozen=True, slots=True)
class GpuClass:
    """What a class of cards of the inventory is on this cluster.

    :param resource: name that its device plugin gives the cards; empty: made from the class.
    :param node_selector: and ``tolerations``: how pods get to the nodes with these cards.
    """

    resource: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """The site's word about pods.

    :param conn_id: Airflow connection of type kubernetes; empty: the cluster that the worker runs in, else kubeconfig.
    :param namespace: of the pods; empty: the connection's, else that of the worker or of kubeconfig's context.
    :param store_volume: None where nothing was said.
    :param pull_policy: as Kubernetes writes it.
    :param fs_group: group that Kubernetes gives the volume to; None leaves it as it is.
    :param labels: and ``annotations``: more of them, for every pod.
    :param gpu_classes: class of the inventory -> what it is here.
    :param pending_seconds: how long a pod may wait until it starts.
    :param transfer_image: runs the steps that bring input from a bucket and output to it; empty: a volume is shared.
    :param store_secret: Secret whose entries these steps get as environment variables.
    :param tmp_bytes: how much an application may write to ``/tmp``.
    """

    conn_id: str = ""
    namespace: str = ""
    store_volume: StoreVolume | None = None
    service_account: str = ""
    pull_secrets: tuple[str, ...] = ()
    pull_policy: str = "IfNotPresent"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority_class: str = ""
    runtime_class: str = ""
    fs_group: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    gpu_classes: Mapping[str, GpuClass] = field(default_factory=dict)
    pending_seconds: float = 1800.0
    tmp_bytes: int = 20 * 1024**3
    transfer_image: str = ""
    store_secret: str = ""


def load(image_pull: str) -> KubernetesSettings:
    """Read them, or raise :class:`SettingsError` that names the option.

    :param image_pull: the site's policy, ``[monai] image_pull``.
    """
    return KubernetesSettings(
        conn_id=settings._text("kubernetes_conn_id"),
        namespace=_name("kubernetes_namespace"),
        store_volume=_json("kubernetes_store_volume", store_volume),
        service_account=_name("kubernetes_service_account"),
        pull_secrets=tuple(
            part.strip() for part in settings._text("kubernetes_image_pull_secrets").split(",") if part.strip()
        ),
        pull_policy=PULL_POLICIES[image_pull],
        node_selector=_json("kubernetes_node_selector", texts) or {},
        tolerations=_json("kubernetes_tolerations", tolerations) or (),
        priority_class=_name("kubernetes_priority_class"),
        runtime_class=_name("kubernetes_runtime_class"),
        fs_group=_group("kubernetes_fs_group"),
        labels=_json("kubernetes_labels", texts) or {},
        annotations=_json("kubernetes_annotations", texts) or {},
        gpu_classes=_json("kubernetes_gpu_classes", gpu_classes) or {},
        pending_seconds=60 * settings.load_pending_minutes("kubernetes"),
        tmp_bytes=_amount("kubernetes_tmp_limit", "20Gi"),
        transfer_image=settings._text("kubernetes_transfer_image"),
        store_secret=_name("kubernetes_store_secret"),
    )


def store_volume(value: Any) -> StoreVolume:
    """``{"claim": name}``, ``{"hostPath": folder}`` or ``{"nfs": {...}}``, each with ``path`` where the store is below.

    :raises ValueError: saying what it should be.
    """
    given = value if isinstance(value, dict) else {}
    kinds = [key for key in given if key in _VOLUMES]
    if len(kinds) != 1 or set(given) - {*_VOLUMES, "path"}:
        raise ValueError('{"claim": "monai"}, {"hostPath": "/data/monai"} or {"nfs": {"server": ..., "path": ...}}')
    path = given.get("path", "")
    if not isinstance(path, str) or ".." in path.split("/"):
        raise ValueError('"path" as a folder in the volume')
    return StoreVolume(_volume_source(kinds[0], given[kinds[0]]), path.strip("/"))


def _volume_source(kind: str, value: Any) -> Mapping[str, Any]:
    if kind == "claim" and isinstance(value, str) and _NAME.fullmatch(value):
        return {"persistentVolumeClaim": {"claimName": value}}
    if kind == "hostPath" and isinstance(value, str) and value.startswith("/"):
        return {"hostPath": {"path": value, "type": "Directory"}}
    if kind == "nfs" and isinstance(value, dict) and {"server", "path"} <= set(value):
        return {"nfs": value}
    wanted = {"claim": "the name of a claim", "hostPath": "an absolute folder", "nfs": "an object with server and path"}
    raise ValueError(f'"{kind}" as {wanted[kind]}')


def gpu_classes(value: Any) -> dict[str, GpuClass]:
    """``{"<class>": {"resource": ..., "node_selector": {...}, "tolerations": [...]}}``."""
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise ValueError('an object such as {"nvidia-a100": {"resource": "nvidia.com/gpu"}}')
    classes = {}
    for name, item in value.items():
        unknown = set(item) - {"resource", "node_selector", "tolerations"}
        resource = item.get("resource", "")
        if unknown or not isinstance(resource, str) or (resource and "/" not in resource):
            raise ValueError(f"{name!r} with resource (such as {GPU_RESOURCE}), node_selector and tolerations only")
        selector, taints = texts(item.get("node_selector", {})), tolerations(item.get("tolerations", []))
        classes[name] = GpuClass(resource, selector, taints)
    return classes


def tolerations(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError('a list such as [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]')
    return tuple(value)


def texts(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError('an object of texts such as {"pool": "gpu"}')
    return value


def _json(option: str, checked: Callable[[Any], Any]) -> Any:
    """What an option's JSON means; None where it is empty."""
    text = settings._text(option)
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"[{settings.SECTION}] {option} is not JSON: {error}.") from None
    try:
        return checked(value)
    except ValueError as error:
        raise SettingsError(f"[{settings.SECTION}] {option} must be {error}.") from None


def _name(option: str) -> str:
    value = settings._text(option)
    if value and not _NAME.fullmatch(value):
        raise SettingsError(f"[{settings.SECTION}] {option} = {value!r} cannot be a name in Kubernetes.")
    return value


def _group(option: str) -> int | None:
    value = settings._text(option)
    if value and not value.isdigit():
        raise SettingsError(f"[{settings.SECTION}] {option} = {value!r} must be the number of a group.")
    return int(value) if value else None


def _amount(option: str, default: str) -> int:
    try:
        return memory_bytes(settings._text(option, default))
    except ValueError as error:
        raise SettingsError(f"[{settings.SECTION}] {option}: {error}.") from None
