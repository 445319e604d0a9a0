"""Pods that share no folder with the workers: what they are made of, how they end, and what is published."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.errors import Fenced, MapError, OutputTooLarge, SettingsError, TransferFailed
from airflow_monai.failures import is_retried
from airflow_monai.maps.runners.base import Exit, MapJob, Mount
from airflow_monai.maps.runners.kubernetes import harvest, status
from airflow_monai.maps.runners.kubernetes import runner as kubernetes
from airflow_monai.maps.runners.kubernetes.pod import Placed, pod_manifest
from airflow_monai.maps.runners.kubernetes.runner import KubernetesRunner
from airflow_monai.maps.runners.kubernetes.settings import KubernetesSettings
from airflow_monai.maps.runners.kubernetes.transfer import Bucket, bucket_of, plan_of
from airflow_monai.maps.runners.kubernetes.usage import PodUsage
from airflow_monai.maps.workspace import Notes
from airflow_monai.settings import load
from airflow_monai.store import open_store
from airflow_monai.store.base import Store
from tests.maps.pods_here import App, PodsHere, wait_until
from tests.maps.test_kubernetes_spec import CLAIM
from tests.maps.test_kubernetes_verdicts import terminated
from tests.maps.test_process import job
from tests.operators.made_maps import MapMaker
from tests.operators.map_tasks import make_payload
from tests.operators.test_bucket import BucketSite
from tests.s3_server import KEY, S3Server, s3  # noqa: F401

KEY_OF_OUTPUT = "payloads/p/runs/r/g1"
SITE = KubernetesSettings(transfer_image="registry.example/airflow-monai:1", store_secret="monai-store")
BUCKET = Bucket("s3://bucket/site", KEY_OF_OUTPUT)
DIGEST = "a" * 64
IMAGE = f"registry.example/noop@sha256:{DIGEST}"


@pytest.fixture
def wanted(tmp_path: Path) -> MapJob:
    """A job as the operator makes it: its folders on this host are not there yet."""
    made = job(tmp_path, "", user="1000:1000", timeout_seconds=600.0)
    staging = made.output.with_name("g1.in")
    _, output = made.mounts
    return replace(
        made,
        labels={"monai.started_by_try": "1"},
        mounts=(Mount(staging, "/var/holoscan/input"), output),
        fetched=(("payloads/p/dcm/1.dcm", staging / "1.dcm"), ("payloads/p/dcm/2.dcm", staging / "sub" / "2.dcm")),
    )


class TestPod:
    """The pod as the API would get it."""

    @pytest.fixture
    def spec(self, wanted: MapJob, tmp_path: Path) -> dict[str, Any]:
        limited = replace(wanted, confinement=replace(wanted.confinement, output_bytes=1 << 30))
        found: dict[str, Any] = pod_manifest(limited, Placed(SITE, tmp_path, bucket=BUCKET))["spec"]
        return found

    def test_the_application_is_run_as_ever(self, spec: dict[str, Any], wanted: MapJob, tmp_path: Path) -> None:
        app = spec["containers"][0]
        assert (app["name"], app["command"]) == ("app", ["python3"]), "not wrapped: its exit code is the verdict"
        assert {mount["mountPath"]: mount for mount in app["volumeMounts"] if "subPath" in mount} == {
            "/var/holoscan/input": {
                "name": "input",
                "mountPath": "/var/holoscan/input",
                "subPath": "files",
                "readOnly": True,
            },
            "/var/holoscan/output": {
                "name": "output",
                "mountPath": "/var/holoscan/output",
                "subPath": "files",
                "readOnly": False,
            },
        }

    def test_its_volumes_are_its_own(self, spec: dict[str, Any]) -> None:
        volumes = {volume.pop("name"): volume for volume in spec["volumes"]}
        assert volumes["input"] == {"emptyDir": {}}
        assert volumes["output"] == {"emptyDir": {"sizeLimit": str(1 << 30)}}, "the quota of its output"
        assert all(list(volume) == ["emptyDir"] for volume in volumes.values())

    def test_the_application_cannot_get_at_the_credentials(self, spec: dict[str, Any]) -> None:
        app, publisher = spec["containers"]
        (fetcher,) = spec["initContainers"]
        assert "envFrom" not in app
        for step in (fetcher, publisher):
            assert step["envFrom"] == [{"secretRef": {"name": "monai-store"}}]
        assert spec["shareProcessNamespace"] is False, "else it could read the environment of the step beside it"
        assert spec["automountServiceAccountToken"] is False

    def test_the_steps_are_shut_in_like_the_application(self, spec: dict[str, Any]) -> None:
        app, publisher = spec["containers"]
        (fetcher,) = spec["initContainers"]
        assert fetcher["securityContext"] == publisher["securityContext"] == app["securityContext"]
        assert fetcher["command"][2:] == ["airflow_monai.maps.transfer", "fetch", BUCKET.url, BUCKET.key]
        assert publisher["command"][2:] == ["airflow_monai.maps.transfer", "publish", BUCKET.url, BUCKET.key]
        assert "input" not in [mount["name"] for mount in publisher["volumeMounts"]]

    def test_it_reaches_the_bucket_and_says_that_it_has_to(self, wanted: MapJob, tmp_path: Path) -> None:
        pod = pod_manifest(wanted, Placed(SITE, tmp_path, bucket=BUCKET))
        labels = pod["metadata"]["labels"]
        assert (labels["monai.transfer"], labels["monai.network"]) == ("s3", "none"), "a policy closes it by default"
        assert pod["spec"]["dnsPolicy"] == "ClusterFirst" and "dnsConfig" not in pod["spec"]

    def test_its_deadline_leaves_time_for_output(self, spec: dict[str, Any], wanted: MapJob, tmp_path: Path) -> None:
        plain = pod_manifest(replace(wanted, mounts=()), Placed(KubernetesSettings(store_volume=CLAIM), tmp_path))
        assert spec["activeDeadlineSeconds"] == plain["spec"]["activeDeadlineSeconds"] + 3600

    def test_folders_of_several_artifacts(self, wanted: MapJob, tmp_path: Path) -> None:
        staging = wanted.output.with_name("g1.in")
        mounts = (Mount(staging / "ct", "/in/ct"), Mount(wanted.output / "seg", "/out/seg", read_only=False))
        several = replace(wanted, mounts=mounts, fetched=(("k", staging / "ct" / "1.dcm"),))
        app = pod_manifest(several, Placed(SITE, tmp_path, bucket=BUCKET))["spec"]["containers"][0]
        paths = {mount["mountPath"]: mount["subPath"] for mount in app["volumeMounts"] if "subPath" in mount}
        assert paths == {"/in/ct": "files/ct", "/out/seg": "files/seg"}
        plan = plan_of(several)
        assert (plan.files, plan.inputs, plan.outputs) == ([("k", "ct/1.dcm")], ["ct"], ["seg"])

    def test_another_folder_of_the_worker_is_not_to_be_had(self, wanted: MapJob, tmp_path: Path) -> None:
        odd = replace(wanted, mounts=(Mount(tmp_path / "elsewhere", "/x"),))
        with pytest.raises(MapError, match="is no folder of the task"):
            pod_manifest(odd, Placed(SITE, tmp_path, bucket=BUCKET))

    def test_a_site_must_say_both(self, wanted: MapJob, tmp_path: Path) -> None:
        in_bucket = replace(wanted, notes=Notes(open_store(str(tmp_path)), KEY_OF_OUTPUT))
        assert bucket_of(wanted, SITE) is None, "its store is a folder"
        assert bucket_of(in_bucket, KubernetesSettings()) is None, "the scratch folder is shared"
        with pytest.raises(SettingsError, match="kubernetes_store_secret"):
            bucket_of(in_bucket, replace(SITE, store_secret=""))


def pod(
    app: dict[str, Any], publisher: dict[str, Any] | None = None, phase: str = "Running", **more: Any
) -> dict[str, Any]:
    publisher = publisher or {"running": {"startedAt": "2026-01-05T10:00:00Z"}}
    statuses = [{"name": "app", "state": app}, {"name": "publish", "state": publisher}]
    init = more.pop("init", {"terminated": {"exitCode": 0}})
    return {
        "metadata": {"name": "monai-x", "uid": "1", **more.pop("metadata", {})},
        "spec": {"containers": [{"name": "app"}, {"name": "publish"}]},
        "status": {
            "phase": phase,
            "containerStatuses": statuses,
            "initContainerStatuses": [{"name": "fetch", "image": "transfer:1", "state": init}],
            **more,
        },
    }


class TestVerdict:
    """What the cluster says of such a pod."""

    def judged(self, ended: dict[str, Any], *, stopped: bool = False, limit: float | None = 600.0) -> Exit:
        assert status.is_over(ended)
        return status.verdict(ended, "seg:1", stopped=stopped, reattached=False, limit=limit)

    def test_the_application_counts_and_not_the_pod(self) -> None:
        assert self.judged(pod(terminated(0, "Completed"))) == Exit(0, seconds=90.0)
        assert self.judged(pod(terminated(7))).code == 7
        assert self.judged(pod(terminated(137, "OOMKilled"))).oom
        assert not status.is_over(pod({"running": {}})) and not status.is_over(pod({"waiting": {}}, phase="Pending"))
        assert self.judged(pod(terminated(0), terminated(1), "Failed")).code == 0, "the step's failure is told apart"

    def test_the_step_s_state_never_stands_for_the_application(self) -> None:
        turned = pod({"running": {}}, terminated(1))
        turned["status"]["containerStatuses"].reverse()
        assert status.has_begun(turned) and not status.is_over(turned)

    def test_input_that_did_not_come(self) -> None:
        failed = terminated(1, message="The store holds no object '...'.")
        ended = pod({"waiting": {"reason": "PodInitializing"}}, {"waiting": {}}, "Failed", init=failed)
        with pytest.raises(
            TransferFailed, match=r"did not get its input from the bucket: The store holds no"
        ) as caught:
            self.judged(ended)
        assert is_retried(caught.value)

    def test_output_that_nobody_fetched_in_time(self) -> None:
        late = pod(terminated(0), terminated(137), "Failed", reason="DeadlineExceeded")
        with pytest.raises(TransferFailed, match="no worker took its output"):
            self.judged(late)
        killed = pod(terminated(137), terminated(137), "Failed", reason="DeadlineExceeded")
        assert self.judged(killed).timed_out
        assert self.judged(late, limit=90.0).timed_out, "the try before had stopped it"

    def test_output_beyond_its_volume(self) -> None:
        full = 'Usage of EmptyDir volume "output" exceeds the limit "1Gi".'
        with pytest.raises(OutputTooLarge, match="output_quota") as caught:
            self.judged(pod(terminated(137), terminated(137), "Failed", reason="Evicted", message=full))
        assert not is_retried(caught.value)

    @pytest.mark.parametrize(
        ("seen", "told"),
        [
            (pod(terminated(0), terminated(1, message="it gave no answer"), "Failed"), "Error: it gave no answer"),
            (pod(terminated(0), terminated(137, "OOMKilled"), "Failed"), "OOMKilled"),
            (pod(terminated(0), phase="Failed", reason="Evicted", message="disk pressure"), "Evicted: disk pressure"),
            (pod(terminated(0), metadata={"deletionTimestamp": "2026-01-05T10:01:30Z"}), "the pod was deleted"),
        ],
    )
    def test_output_that_will_not_come(self, seen: dict[str, Any], told: str) -> None:
        with pytest.raises(TransferFailed, match=rf"did not bring its output to the bucket \({told}") as caught:
            status.raise_if_unpublished(seen, "seg:1")
        assert is_retried(caught.value)

    def test_a_step_that_still_runs_is_waited_for(self) -> None:
        status.raise_if_unpublished(pod(terminated(0)), "seg:1")

    def test_what_keeps_the_first_step_from_starting_is_told(self) -> None:
        stuck = pod({"waiting": {"reason": "PodInitializing"}}, {"waiting": {}}, "Pending", init={
            "waiting": {"reason": "CreateContainerConfigError", "message": 'secret "monai-store" not found'}
        })  # fmt: skip
        reason, message = status.waiting_for(stuck)
        assert (reason, message) == ("CreateContainerConfigError", 'secret "monai-store" not found')
        assert status.image_waited_for(stuck, "seg:1") == "transfer:1"
        assert status.hopeless(reason, message, "transfer:1") is not None

    def test_only_the_application_s_use_is_measured(self) -> None:
        now = iter([0.0, 20.0, 20.0])
        containers = [
            {"name": "app", "usage": {"memory": "100Mi", "cpu": "1"}},
            {"name": "publish", "usage": {"memory": "900Mi", "cpu": "1"}},
        ]
        usage = PodUsage(lambda: {"containers": containers}, lambda: next(now))
        usage.look()
        assert (usage.so_far.peak_memory_bytes, usage.so_far.cpu_seconds) == (100 << 20, 20.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_TRANSFER_IMAGE", SITE.transfer_image)
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_STORE_SECRET", SITE.store_secret)
    monkeypatch.setattr(kubernetes, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(kubernetes, "TELLING_SECONDS", 0.3)
    monkeypatch.setattr(harvest, "POLL_SECONDS", 0.1)


def copies(inputs: Path, outputs: Path) -> int:
    """An application that writes what it reads."""
    shutil.copytree(inputs, outputs / "seen")
    return 0


class Killed(BaseException):
    """The worker's process was killed."""


class Bench:
    """One job, its store in a bucket, and pods on this host."""

    def __init__(self, server: S3Server, folder: Path, wanted: MapJob):
        self.folder = folder
        self.store = server.store(folder)
        for name in ("1", "2"):
            self.store.write(f"payloads/p/dcm/{name}.dcm", f"image {name}".encode())
        self.job = replace(wanted, notes=Notes(self.store, KEY_OF_OUTPUT))
        self.secret = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": server.url,
        }
        self.cluster = PodsHere(folder / "pods", copies, self.secret)

    def with_app(self, app: App, **how: Any) -> None:
        self.cluster = PodsHere(self.folder / "pods", app, self.secret, **how)

    def runner(self) -> KubernetesRunner:
        runner = KubernetesRunner(load(), self.store)
        runner.__dict__["cluster"] = self.cluster
        return runner

    def of_try(self, number: int, host: str = "") -> MapJob:
        """The job as a try has it; on another host its folders lie elsewhere."""
        job = replace(self.job, labels={"monai.started_by_try": str(number)})
        if not host:
            return job
        output = self.folder / host / "g1"
        output.parent.mkdir()
        staging, target = job.mounts[0].source, job.mounts[1].target
        moved = output.with_name("g1.in")
        return replace(
            job,
            output=output,
            state=output.with_name("g1.run"),
            mounts=(Mount(moved, job.mounts[0].target), Mount(output, target, read_only=False)),
            fetched=tuple((key, moved / path.relative_to(staging)) for key, path in job.fetched),
        )

    def run(self, job: MapJob | None = None, check: Callable[[], None] = lambda: None) -> Exit:
        return self.runner().run(job or self.of_try(1), on_line=lambda _: None, check=check)

    def published(self) -> dict[str, bytes]:
        top = len(KEY_OF_OUTPUT) + 1
        return {key[top:]: self.store.read(key) for key in self.store.list(KEY_OF_OUTPUT)}

    def ended(self) -> bool:
        return any(status.is_over(pod.seen()) for pod in self.cluster.pods.values())


@pytest.fixture
def bench(s3: S3Server, tmp_path: Path, wanted: MapJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:  # noqa: F811
    monkeypatch.setenv("AIRFLOW__MONAI__SCRATCH_FOLDER", str(tmp_path / "scratch"))
    made = Bench(s3, tmp_path, wanted)
    yield made
    made.cluster.close()


class TestRun:
    """The runner, with pods on this host and the real steps."""

    def test_input_comes_and_output_goes_without_a_shared_folder(self, bench: Bench) -> None:
        wanted, runner = bench.of_try(1), bench.runner()
        assert runner.fetches_inputs
        ended = bench.run(wanted)
        assert (ended.code, ended.timed_out, ended.reattached) == (0, False, False)
        assert bench.published() == {"t1/seen/1.dcm": b"image 1", "t1/seen/sub/2.dcm": b"image 2"}
        assert (wanted.output / "seen" / "1.dcm").read_bytes() == b"image 1", "for the check of its artifacts"
        runner.discard(wanted)
        assert bench.cluster.pods == {}
        assert [key for key in bench.store.list("payloads/p/runs") if "/t1/" not in key] == []

    def test_a_failed_application_is_told_by_its_exit_code_and_publishes_nothing(self, bench: Bench) -> None:
        def fails(inputs: Path, outputs: Path) -> int:
            (outputs / "half").write_text("half")
            return 7

        bench.with_app(fails)
        assert bench.run().code == 7
        assert bench.published() == {}

    def test_a_worker_of_another_host_harvests_what_a_killed_one_began(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die() -> None:
            if bench.ended():
                raise Killed

        with pytest.raises(Killed):
            bench.run(check=die)
        monkeypatch.setenv("AIRFLOW__MONAI__SCRATCH_FOLDER", str(tmp_path / "other-scratch"))
        second = bench.of_try(2, host="other")
        assert second.notes is not None
        second.notes.require_here(second.name)
        ended = bench.run(second)
        assert (ended.code, ended.reattached, bench.cluster.ever) == (0, True, 1), "it did not run twice"
        assert set(bench.published()) == {"t2/seen/1.dcm", "t2/seen/sub/2.dcm"}
        assert (second.output / "seen" / "1.dcm").exists()

    def test_a_worker_killed_while_the_pod_publishes_for_it(self, bench: Bench) -> None:
        bench.with_app(copies, more=SLOW_FOR_THE_FIRST_TRY)

        def die() -> None:
            if any(name.startswith("t1/") for name in bench.published()):
                raise Killed

        with pytest.raises(Killed):
            bench.run(check=die)
        assert bench.run(bench.of_try(2)).code == 0
        assert bench.published() == {"t1/half": b"half"} | {
            "t2/seen/1.dcm": b"image 1",
            "t2/seen/sub/2.dcm": b"image 2",
        }, "what the first had got so far is named by no record"

    def test_an_older_try_that_wakes_up_gets_nothing(self, bench: Bench) -> None:
        newer = threading.Event()

        def check() -> None:
            if newer.is_set():
                raise Fenced("a newer try")
            if bench.ended():
                newer.set()

        with pytest.raises(Fenced):
            bench.run(check=check)
        assert bench.run(bench.of_try(2)).code == 0
        assert {name.partition("/")[0] for name in bench.published()} == {"t2"}

    def test_a_pod_that_dies_in_mid_upload_is_worth_a_retry(self, bench: Bench) -> None:
        bench.with_app(copies, more=DIES_IN_MID_UPLOAD)
        with pytest.raises(TransferFailed, match="did not bring its output to the bucket") as caught:
            bench.run()
        assert is_retried(caught.value)
        bench.runner().discard(bench.job)
        bench.with_app(copies)
        assert bench.run(bench.of_try(2)).code == 0
        assert {name for name in bench.published() if name.startswith("t2/")} == {"t2/seen/1.dcm", "t2/seen/sub/2.dcm"}

    def test_a_pod_whose_upload_fails_says_why(self, bench: Bench) -> None:
        bench.with_app(copies, more=REFUSED, patience=0.3)
        with pytest.raises(TransferFailed, match=r"Error: The store cannot handle '\.\.\.': AccessDenied"):
            bench.run()

    def test_missing_input(self, bench: Bench) -> None:
        bench.store.delete("payloads/p/dcm/2.dcm")
        with pytest.raises(TransferFailed, match="The store holds no object") as caught:
            bench.run()
        assert "2.dcm" not in str(caught.value)
        assert is_retried(caught.value)

    def test_a_bucket_that_the_pod_cannot_reach(self, bench: Bench) -> None:
        bench.secret["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:9"
        bench.with_app(copies, patience=0.0)
        with pytest.raises(TransferFailed, match=r"did not get its input .*127\.0\.0\.1:9 gave no answer"):
            bench.run()

    def test_more_output_than_it_may(self, bench: Bench) -> None:
        narrow = replace(bench.of_try(1), confinement=replace(bench.job.confinement, output_bytes=4096, output_files=2))
        with pytest.raises(OutputTooLarge, match="wrote more than the"):
            bench.run(narrow)
        assert bench.published() == {}

    def test_objects_that_somebody_removes_are_missed(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        entries = type(bench.store).entries
        monkeypatch.setattr(type(bench.store), "entries", lambda store, prefix: list(entries(store, prefix))[1:])
        with pytest.raises(TransferFailed, match="2 files with 14 bytes, the bucket has 1 with 7 bytes"):
            bench.run()


SLOW_FOR_THE_FIRST_TRY = """
import time
from airflow_monai.store import s3
whole = s3.S3Store.put_tree
def put_tree(store, folder, prefix, check):
    if prefix.endswith("/t1"):
        store.write(prefix + "/half", b"half")
        while True:
            check()
            time.sleep(0.05)
    whole(store, folder, prefix, check)
s3.S3Store.put_tree = put_tree
"""
DIES_IN_MID_UPLOAD = """
import os, signal
from airflow_monai.store import s3
def put_tree(store, folder, prefix, check):
    store.write(prefix + "/half", b"half")
    os.kill(os.getpid(), signal.SIGKILL)
s3.S3Store.put_tree = put_tree
"""
REFUSED = """
from airflow_monai.errors import StoreError
from airflow_monai.store import s3
def put_tree(store, folder, prefix, check):
    raise StoreError("The store cannot handle 'payloads/p/1.2.3': AccessDenied (HTTP 403).")
s3.S3Store.put_tree = put_tree
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> BucketSite:  # noqa: F811
    """A site whose store is in a bucket and whose pods share nothing with its workers."""
    store = f"s3://{s3.bucket()}/site"
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_STORE", s3.connection)
    for option, value in {
        "STORE": store,
        "STORE_CONN_ID": "monai_store",
        "SPOOL_FOLDER": str(tmp_path / "spool"),
        "SCRATCH_FOLDER": str(tmp_path / "scratch"),
        "RUNNER": "kubernetes",
        "TASK_LOG": "filtered",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    payload_id = make_payload(store, source=tmp_path / "study")
    made = BucketSite("kubernetes", store, payload_id, MapMaker("process", tmp_path), scratch=tmp_path / "scratch")
    _tell_manifests(made.folder.store)
    return made


def _tell_manifests(store: Store) -> None:
    """Let the image's manifests be known, as when an earlier task has looked into it."""
    app = {"command": "python3 /opt/holoscan/app/main.py", "input": {"path": "input/"}, "output": {"path": "output/"}}
    files = {"app.json": json.dumps(app), "pkg.json": "{}"}
    content = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    store.write_json(f"cache/manifests/{DIGEST}.json", content)


@pytest.fixture
def cluster(
    site: BucketSite,
    tmp_path: Path,
    s3: S3Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[PodsHere]:
    secret = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_ENDPOINT_URL_S3": s3.url}
    here = PodsHere(tmp_path / "pods", copies, secret)
    monkeypatch.setattr(KubernetesRunner, "cluster", here)
    yield here
    here.close()


FOLDER_OUTPUT = [{"name": "out", "type": "Folder", "value": ""}]


def test_a_task_publishes_what_its_pod_has_uploaded(
    site: BucketSite, cluster: PodsHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*_: object) -> None:
        raise AssertionError("the pod has uploaded it already")

    monkeypatch.setattr("airflow_monai.store.s3.S3Store.put_tree", twice)
    record = site.run(**site.arguments(map=IMAGE, outputs=FOLDER_OUTPUT))
    assert record.output_dir == f"{site.folder.output_key('segment', -1, 1)}/t1"
    keys = set(site.folder.store.list(record.output_dir))
    assert keys == set(record.artifacts["out"]) and len(keys) >= 1
    received = [site.folder.store.read(key) for key in site.folder.store.list(f"payloads/{site.payload_id}/dcm")]
    assert sorted(map(site.folder.store.read, keys)) == sorted(received), "it saw the whole study"
    assert (site.traces(), cluster.pods) == ([], {})
    assert notes_left(site) == []


def notes_left(site: BucketSite) -> list[str]:
    return [key for key in site.folder.store.list("payloads") if key.endswith((".fetch", ".ask", ".done", ".place"))]


def test_a_task_whose_application_fails_leaves_nothing(site: BucketSite, cluster: PodsHere) -> None:
    cluster.app = lambda inputs, outputs: 7
    with pytest.raises(AirflowFailException, match="exit code 7"):
        site.run(**site.arguments(map=IMAGE))
    assert site.published() == {}
    assert (site.traces(), cluster.pods, notes_left(site)) == ([], {}, [])


def test_a_task_whose_output_got_lost_runs_again(site: BucketSite, cluster: PodsHere) -> None:
    cluster.more = DIES_IN_MID_UPLOAD
    with pytest.raises(TransferFailed):
        site.run(**site.arguments(map=IMAGE, outputs=FOLDER_OUTPUT))
    assert (cluster.pods, notes_left(site)) == ({}, [])
    cluster.more = ""
    record = site.run(**site.arguments(map=IMAGE, outputs=FOLDER_OUTPUT), try_number=2)
    assert {name.partition("/")[0] for name in site.published()} == {"t2"}, "nothing of the first one is left"
    assert record.output_dir is not None and record.output_dir.endswith("/t2")
    assert cluster.ever == 2
    wait_until(lambda: not cluster.pods)
