"""Pods that share no folder with the workers: the store is in a bucket, which pods reach through this host's bridge.

MONAI_KUBE_HOST says this host's address as pods see it; by default the gateway of Docker's bridge. The image with the
two steps is made here, of the sample MAPs' base image, this package and boto3.
"""

from __future__ import annotations

import importlib.util
import io
import ipaddress
import os
import shutil
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import TransferFailed
from airflow_monai.failures import is_retried
from airflow_monai.operators.container import ContainerOperator
from tests.kube.conftest import Kube
from tests.kube.test_cluster import once
from tests.kube.wire import Wire
from tests.operators.made_maps import MapMaker
from tests.operators.map_tasks import STUDY, context_of, make_payload
from tests.operators.test_bucket import BucketSite
from tests.operators.test_map_durability import slow_task, wait_until
from tests.s3_server import KEY, S3Server, s3  # noqa: F401

BASE = "airflow-monai-map-base:bookworm"
LIBRARIES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "certifi", "six")
SECRET = "monai-store"
FOLDER_OUTPUT = [{"name": "out", "type": "Folder", "value": ""}]


@dataclass
class ApartSite(BucketSite):
    """A site with a bucket, on a cluster."""

    kube: Kube = field(default_factory=lambda: Kube(""))

    def traces(self) -> list[str]:
        notes = [key for key in self.folder.store.list("payloads") if key.endswith((".fetch", ".ask", ".done"))]
        return super().traces() + notes + self.kube.names(self.store)


@pytest.fixture(scope="session")
def transfer_image(map_images: dict[str, str]) -> Iterator[str]:
    """The image's tag."""
    import docker

    client = docker.from_env(version="auto")
    container = client.containers.create(BASE, ["python3"])
    try:
        container.put_archive("/usr/lib/python3", _packages())
        image = container.commit("airflow-monai-test/transfer", uuid.uuid4().hex[:8])
    finally:
        container.remove()
    yield image.tags[0]
    client.images.remove(image.id, force=True)


def _packages() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("airflow_monai", *LIBRARIES):
            found = importlib.util.find_spec(name)
            assert found is not None and found.origin is not None
            whole = Path(found.origin).parent if found.submodule_search_locations else Path(found.origin)
            tar.add(whole, f"dist-packages/{whole.name}", filter=_plain)
    return stream.getvalue()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    service = info.name.partition("botocore/data/")[2].partition("/")[0]
    if "__pycache__" in info.name or (service and "." not in service and service != "s3"):
        return None
    info.uid = info.gid = 0
    info.mode = 0o755 if info.isdir() else 0o644
    return info


@pytest.fixture
def wire(s3: S3Server) -> Iterator[Wire]:  # noqa: F811
    """The way from the pods to the bucket."""
    address = os.environ.get("MONAI_KUBE_HOST") or _bridge()
    made = Wire(int(urlsplit(s3.url).port or 0), address)
    yield made
    made.close()


def _bridge() -> str:
    import docker

    network = docker.from_env(version="auto").networks.get("bridge").attrs["IPAM"]["Config"][0]
    return str(network.get("Gateway") or ipaddress.ip_network(network["Subnet"])[1])


@pytest.fixture
def secret(cluster: Kube, wire: Wire) -> Iterator[str]:
    name = f"{SECRET}-{uuid.uuid4().hex[:8]}"
    values = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://{wire.host}:{wire.port}",
    }
    cluster.api.create_namespaced_secret(cluster.namespace, {"metadata": {"name": name}, "stringData": values})
    yield name
    cluster.api.delete_namespaced_secret(name, cluster.namespace)


@pytest.fixture
def site(
    cluster: Kube,
    transfer_image: str,
    secret: str,
    s3: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ApartSite]:
    store = f"s3://{s3.bucket()}/site"
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_STORE", s3.connection)
    for option, value in {
        "STORE": store,
        "STORE_CONN_ID": "monai_store",
        "SPOOL_FOLDER": str(tmp_path / "spool"),
        "SCRATCH_FOLDER": str(tmp_path / "scratch"),
        "RUNNER": "kubernetes",
        "TASK_LOG": "filtered",
        "IMAGE_PULL": "never",
        "KUBERNETES_NAMESPACE": cluster.namespace,
        "KUBERNETES_TRANSFER_IMAGE": transfer_image,
        "KUBERNETES_STORE_SECRET": secret,
        "KUBERNETES_PENDING_MINUTES": "2",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    payload_id = make_payload(store, source=tmp_path / "study")
    maker = MapMaker("kubernetes", tmp_path / "maps")
    site = ApartSite("kubernetes", store, payload_id, maker, scratch=tmp_path / "scratch", kube=cluster)
    yield site
    for worker in site.workers:
        worker.kill()
        worker.wait()
    site.maker.clean()
    assert site.traces() == []


def test_input_comes_and_output_goes_without_a_shared_folder(site: ApartSite) -> None:
    source = """
import os, shutil
shutil.copytree(os.environ["HOLOSCAN_INPUT_PATH"], os.environ["HOLOSCAN_OUTPUT_PATH"] + "/seen")
"""
    reference = site.maker.make("copies", source)
    record = site.run(**site.arguments(map=reference, outputs=FOLDER_OUTPUT))
    store = site.folder.store
    assert record.output_dir == f"{site.folder.output_key('segment', -1, 1)}/t1"
    seen = sorted(map(store.read, store.list(record.output_dir)))
    assert seen == sorted(map(store.read, store.list(f"payloads/{site.payload_id}/dcm"))) != []
    assert set(record.artifacts["out"]) == set(store.list(record.output_dir))
    assert site.traces() == []


def test_the_exit_code_is_the_application_s(site: ApartSite) -> None:
    with pytest.raises(AirflowFailException, match=r"exit code 7\. It last said"):
        site.run(**site.arguments("exit7"))
    assert (site.published(), site.traces()) == ({}, [])


def test_time_limit(site: ApartSite) -> None:
    with pytest.raises(AirflowFailException, match="longer than its time limit of 3 s"):
        site.run(**site.arguments("sleep", timeout_minutes=0.05))
    assert site.traces() == []


def test_memory_limit(site: ApartSite) -> None:
    with pytest.raises(AirflowFailException, match="memory limit of 48 MiB"):
        site.run(**site.arguments("memory", resources={"memory": "48Mi"}))


def test_another_host_harvests_when_the_worker_and_the_application_have_ended(
    site: ApartSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.kube.uids_ever()
    arguments = slow_task(site, 3)
    worker, _ = site.worker(arguments)
    wait_until(lambda: any(_state(site, "app", "running")), 90)
    worker.kill()
    worker.wait()
    wait_until(lambda: any(_state(site, "app", "terminated")), 60)
    monkeypatch.setenv("AIRFLOW__MONAI__SCRATCH_FOLDER", str(tmp_path / "other"))
    record = site.run(**arguments, try_number=2)
    assert record.stats["reattached"] is True
    assert site.published() == {"t2/starts": b"started\n"}, "it was started once"
    assert len(site.kube.uids_ever() - before) == 1
    assert site.traces() == ["g1.log"], "on the host of the killed worker, for whoever comes there again"
    shutil.rmtree(site.scratch)


def _state(site: ApartSite, container: str, state: str) -> Iterator[bool]:
    for pod in site.kube.pods(site.store):
        for status in pod.status.container_statuses or ():
            if status.name == container:
                yield getattr(status.state, state) is not None


def test_a_publisher_that_is_killed_costs_a_try(site: ApartSite) -> None:
    import docker

    client = docker.from_env(version="auto")

    def kill() -> None:
        (name,) = site.kube.names(site.store)
        (publisher,) = client.containers.list(filters={"name": f"k8s_publish_{name}"})
        publisher.kill()

    once(lambda: any(_state(site, "publish", "running")), kill)
    with pytest.raises(TransferFailed, match="did not bring its output to the bucket") as caught:
        site.run(**slow_task(site, 6), retries=1)
    assert is_retried(caught.value)
    assert site.traces() == []
    record = site.run(**slow_task(site, 0), try_number=2)
    assert record.stats["reattached"] is False
    assert site.published() == {"t2/starts": b"started\n"}


def test_a_bucket_that_is_away_for_the_pod_while_it_publishes(site: ApartSite, wire: Wire) -> None:
    def cut() -> None:
        wire.cut()
        wait_until(lambda: any(_state(site, "app", "terminated")), 60)
        time.sleep(8)
        wire.mend()

    once(lambda: any(_state(site, "app", "running")), cut)
    record = site.run(**slow_task(site, 4))
    assert record.stats["exit_code"] == 0
    assert site.published() == {"t1/starts": b"started\n"}


def test_a_bucket_that_is_away_before_the_start(site: ApartSite, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_PENDING_MINUTES", "0.3")
    wire.cut()
    with pytest.raises(Exception, match="could not start within") as caught:
        site.run(**site.arguments(), retries=1)
    assert is_retried(caught.value)
    assert site.kube.names(site.store) == []
    wire.mend()
    assert site.run(**site.arguments(), try_number=2).stats["exit_code"] == 0
    assert site.traces() == []


def test_a_secret_that_is_not_there_is_named(site: ApartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_STORE_SECRET", "no-such-secret")
    with pytest.raises(AirflowFailException, match="no-such-secret"):
        site.run(**site.arguments())
    assert site.traces() == []


SPY = """
import json, os
found = {"environment": sorted(os.environ), "processes": []}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        found["processes"].append(open(f"/proc/{pid}/cmdline").read())
    except OSError:
        pass
json.dump(found, open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "/metadata.json", "w"))
"""


def test_the_application_sees_nothing_of_the_credentials(site: ApartSite) -> None:
    record = site.run(**site.arguments(map=site.maker.make("spy", SPY)))
    found: dict[str, Any] = dict(record.result)
    assert [name for name in found["environment"] if name.startswith("AWS_")] == []
    assert len(found["processes"]) == 1, "its own"


def test_a_container_of_any_image_finds_each_artifact_at_its_own_path(site: ApartSite) -> None:
    outputs = [{"name": name, "type": "Folder", "value": ""} for name in ("found", "more")]
    script = "find /data/in -name '*.dcm' | wc -l >/out/found/count; echo y >/made/more/y; touch /data/in/x || true"
    operator = ContainerOperator(
        task_id="segment",
        image=BASE,
        runner="kubernetes",
        inputs=[STUDY],
        outputs=outputs,
        paths={"study": "/data/in", "found": "/out/found", "more": "/made/more"},
        entrypoint=["/bin/sh", "-c"],
        command=[script],
    )
    operator.execute(context_of(operator, site.payload_id))
    count = len(list(site.folder.store.list(f"payloads/{site.payload_id}/dcm")))
    assert site.published() == {"t1/found/count": f"{count}\n".encode(), "t1/more/y": b"y\n"}
    assert site.traces() == []


def test_more_output_than_it_may_is_not_published(site: ApartSite) -> None:
    source = """
import os
open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "/big", "wb").write(bytes(3 << 20))
"""
    with pytest.raises(AirflowFailException, match="wrote more than"):
        site.run(**site.arguments(map=site.maker.make("big", source), sandbox={"output_quota": "1Mi"}))
    assert (site.published(), site.traces()) == ({}, [])
