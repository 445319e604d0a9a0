"""A site whose applications are pods of a real cluster: `make test-kube`, wherever KUBECONFIG points to one.

The cluster's nodes must have the images of the local Docker engine (a one-node cluster over it, or images loaded into
it), and see this host's folders under the same path; MONAI_KUBE_VOLUME says another volume (the JSON of [monai]
kubernetes_store_volume), and MONAI_KUBE_FOLDER where this host sees that one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_maps import map_images  # noqa: F401
from tests.operators.conftest import Site
from tests.operators.made_maps import MapMaker
from tests.operators.map_tasks import make_payload


@functools.cache
def _no_cluster() -> str:
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster"
    try:
        from kubernetes import client, config
    except ImportError:
        return "the kubernetes extra is not installed: run `make test-kube`"
    try:
        config.load_kube_config()
        client.VersionApi().get_code(_request_timeout=10)
    except Exception as error:  # noqa: BLE001 - any failure means: no cluster here
        return f"no cluster answers at KUBECONFIG ({type(error).__name__})"
    return ""


@dataclass
class Kube:
    """The cluster as a person with kubectl sees it, in a namespace of its own."""

    namespace: str

    @functools.cached_property
    def api(self) -> Any:
        from kubernetes import client, config

        config.load_kube_config()
        return client.CoreV1Api()

    def pods(self, store: str = "") -> list[Any]:
        selector = f"monai.store={hashlib.sha256(store.encode()).hexdigest()[:16]}" if store else ""
        found: list[Any] = self.api.list_namespaced_pod(self.namespace, label_selector=selector).items
        return found

    def names(self, store: str = "") -> list[str]:
        return [pod.metadata.name for pod in self.pods(store)]

    def uids_ever(self) -> set[str]:
        """Ids of all pods that were ever scheduled or tried to be, applications only."""
        events = self.api.list_namespaced_event(self.namespace).items
        pods = (event.involved_object for event in events if event.involved_object.kind == "Pod")
        return {pod.uid for pod in pods if not pod.name.startswith("monai-manifest-")}


@dataclass
class KubeSite(Site):
    kube: Kube = field(default_factory=lambda: Kube(""))

    def traces(self) -> list[str]:
        ours = (".run", ".in", ".place", ".lock")
        folders = [path.name for path in self.output().parent.glob("g*.*") if path.suffix in ours]
        return folders + self.kube.names(self.store)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kube]:
    """A namespace that is empty again at the end."""
    reason = _no_cluster()
    if reason:
        pytest.skip(reason)
    kube = Kube(f"monai-test-{uuid.uuid4().hex[:8]}")
    kube.api.create_namespace({"metadata": {"name": kube.namespace}})
    yield kube
    left = kube.names()
    kube.api.delete_namespace(kube.namespace)
    assert left == []


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that pods can get at under the volume's path."""
    shared = os.environ.get("MONAI_KUBE_FOLDER")
    if not shared:
        yield tmp_path
        return
    made = Path(shared) / f"test-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def site(
    cluster: Kube,
    map_images: dict[str, str],  # noqa: F811
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[KubeSite]:
    """The site of the operators' tests, on the cluster."""
    store = str(folder / "store")
    volume = json.loads(os.environ.get("MONAI_KUBE_VOLUME") or json.dumps({"hostPath": store}))
    if os.environ.get("MONAI_KUBE_FOLDER"):
        volume["path"] = "/".join((volume.get("path", ""), folder.name, "store")).strip("/")
    for option, value in {
        "STORE": store,
        "RUNNER": "kubernetes",
        "TASK_LOG": "filtered",
        "IMAGE_PULL": "never",
        "KUBERNETES_NAMESPACE": cluster.namespace,
        "KUBERNETES_STORE_VOLUME": json.dumps(volume),
        "KUBERNETES_PENDING_MINUTES": "2",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    site = KubeSite("kubernetes", store, make_payload(store), MapMaker("kubernetes", folder / "maps"), kube=cluster)
    yield site
    for worker in site.workers:
        worker.kill()
        worker.wait()
    site.maker.clean()
    assert site.traces() == []
