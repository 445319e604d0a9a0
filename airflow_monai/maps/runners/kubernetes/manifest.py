"""Manifests out of an image of a cluster: by a short pod that prints them and never runs the application.

A registered MAP needs none, since its manifests are in the store. What a digest names is read once; what a tag names
can change, so it is read for each task.
"""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MapError, MapInterrupted, MapNotFound, RunnerUnavailable
from airflow_monai.maps.job import store_label
from airflow_monai.maps.manifest import GENERATION_FOLDERS, ManifestFiles
from airflow_monai.maps.runners.base import READER_SECONDS, FoundMap
from airflow_monai.maps.runners.kubernetes import status
from airflow_monai.maps.runners.kubernetes.pending import Pending
from airflow_monai.maps.runners.kubernetes.pod import bare_pod, container_security
from airflow_monai.maps.runners.kubernetes.settings import KubernetesSettings
from airflow_monai.maps.runners.kubernetes.status import CONTAINER

if TYPE_CHECKING:
    from airflow_monai.maps.runners.kubernetes.cluster import Cluster
    from airflow_monai.store.base import Store

LABELS = {"monai.purpose": "manifest", "monai.network": "none"}
LOOK_SECONDS = 0.25
_RESOURCES = {"cpu": "100m", "memory": "64Mi"}
_DIGEST = re.compile(r".+@sha256:(?P<hash>[0-9a-f]{64})\Z")
_PULLABLE = re.compile(r"(?:docker-pullable://)?(?P<image>[^/].*@sha256:[0-9a-f]{64})\Z")
_FOUND = re.compile(rb"^%MONAI% (\S+) (\d+)\n", re.MULTILINE)


def find_in_cluster(
    cluster: Cluster, site: KubernetesSettings, store: Store, reference: str, user: str, check: Callable[[], None]
) -> FoundMap:
    """The MAP in the image ``reference`` that the cluster can get.

    :param user: ``uid:gid`` of the pod that reads it.
    :raises MapNotFound: when nobody has the image, or it holds no manifests.
    """
    known = known_in_cluster(store, reference, reference)
    if known is not None:
        return known
    content, image = _read(cluster, site, store, reference, user, check)
    for name in (reference, image):
        if key := _key(name):
            store.create_json(key, content)
    # what was looked at is what is run, where the cluster says which one that was
    return FoundMap(reference, image or reference, _files(content, reference).parsed())


def known_in_cluster(store: Store, reference: str, image: str) -> FoundMap | None:
    """The MAP in an image that somebody has looked into; None where nobody has, or where its name may change meaning.

    :param reference: by which it is asked for.
    """
    key = _key(image)
    if not key or not store.exists(key):
        return None
    return FoundMap(reference, image, _files(store.read_json(key), reference).parsed())


def _key(image: str) -> str:
    match = _DIGEST.fullmatch(image)
    return f"cache/manifests/{match['hash']}.json" if match else ""


def _files(content: dict[str, str], reference: str) -> ManifestFiles:
    files = {name: base64.b64decode(text) for name, text in content.items()}
    return ManifestFiles(files.get("app.json"), files.get("pkg.json"), reference, files.get("generation", b"").decode())


def _read(
    cluster: Cluster, site: KubernetesSettings, store: Store, reference: str, user: str, check: Callable[[], None]
) -> tuple[dict[str, str], str]:
    """Both files, and the image by its digest where it has one."""
    name = f"monai-manifest-{uuid.uuid4().hex[:16]}"
    cluster.create(_pod(name, site, reference, user, {**LABELS, **store_label(store)}))
    try:
        pod = _ended(cluster, site, name, reference, check)
        output = _output(cluster, name, reference)
    finally:
        cluster.delete(name, 0)
    content = parse_output(output)
    if "app.json" not in content:
        raise MapNotFound(
            f"The image {reference!r} is no MAP, or has no shell to tell: neither /etc/holoscan/app.json nor "
            f"/etc/monai/app.json could be read in it (exit code {(status.terminated(pod) or {}).get('exitCode')})."
        )
    pullable = _PULLABLE.fullmatch(status.container_status(pod).get("imageID", ""))
    return content, pullable["image"] if pullable else ""


def _output(cluster: Cluster, name: str, reference: str) -> bytes:
    try:
        return b"".join(cluster.log(name, follow=False, timestamps=False))
    except MapError as error:  # its node, of which the log is asked for, does not answer or has lost it
        raise RunnerUnavailable(f"The manifests of {reference!r} could not be read: {error}") from error


def parse_output(output: bytes) -> dict[str, str]:
    """The files that the pod printed, in base 64: ``app.json`` and ``pkg.json`` of the newest generation."""
    found: dict[str, bytes] = {}
    for match in _FOUND.finditer(output):
        found.setdefault(match[1].decode(), output[match.end() : match.end() + int(match[2])])
    for generation in GENERATION_FOLDERS:
        app = found.get(f"/etc/{generation}/app.json")
        if app is not None:
            pkg = found.get(f"/etc/{generation}/pkg.json")
            files = {"app.json": app, "generation": generation.encode()} | ({} if pkg is None else {"pkg.json": pkg})
            return {name: base64.b64encode(data).decode() for name, data in files.items()}
    return {}


def _script() -> str:
    paths = " ".join(f"/etc/{name}/{file}" for name in GENERATION_FOLDERS for file in ("app.json", "pkg.json"))
    return (
        f'for f in {paths}; do [ -f "$f" ] || continue; '
        'printf \'%%MONAI%% %s %s\\n\' "$f" $(wc -c <"$f"); head -c 1048577 "$f"; echo; done'
    )


def _pod(name: str, site: KubernetesSettings, reference: str, user: str, labels: Mapping[str, str]) -> dict[str, Any]:
    container = {
        "name": CONTAINER,
        "image": reference,
        "imagePullPolicy": site.pull_policy,
        "command": ["/bin/sh", "-c", _script()],
        "resources": {"requests": dict(_RESOURCES), "limits": dict(_RESOURCES)},
        "securityContext": container_security(),
    }
    pod = bare_pod(name, site, container, user=user, labels=labels)
    pod["spec"]["activeDeadlineSeconds"] = int(site.pending_seconds) + int(READER_SECONDS)
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    return pod


def _ended(
    cluster: Cluster, site: KubernetesSettings, name: str, reference: str, check: Callable[[], None]
) -> dict[str, Any]:
    pending = Pending(cluster, reference, site.pending_seconds)
    while True:
        check()
        pod = cluster.get(name)
        if pod is None:
            raise MapInterrupted(f"The pod that reads the manifests of {reference!r} was deleted.")
        if status.is_over(pod):
            # a node that gave it up says nothing about the image
            status.verdict(pod, f"The reading of {reference!r}", stopped=False, reattached=False, limit=None)
            return pod
        error = None if status.has_begun(pod) else pending.look(pod)
        if error is not None:
            raise error
        time.sleep(LOOK_SECONDS)


def reader_seconds(pod: status.Pod, site: KubernetesSettings) -> float | None:
    """How long a pod may live if it is one that manifests are read from, else None."""
    if not LABELS.items() <= pod["metadata"].get("labels", {}).items():
        return None
    return READER_SECONDS + (site.pending_seconds if status.phase(pod) == "Pending" else 0.0)
