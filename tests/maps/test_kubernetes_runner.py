"""The kubernetes runner's own decisions, against a cluster that a test scripts."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import MapNotStopped
from airflow_monai.maps.job import store_label
from airflow_monai.maps.runners.base import MapJob, with_deadline
from airflow_monai.maps.runners.kubernetes import runner as module
from airflow_monai.maps.runners.kubernetes.manifest import LABELS
from airflow_monai.maps.runners.kubernetes.pod import label_value
from airflow_monai.maps.runners.kubernetes.runner import KubernetesRunner
from airflow_monai.settings import load
from airflow_monai.store import open_store
from tests.maps.test_process import job

DIGEST = "registry.example/a@sha256:" + "a" * 64
RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}


class ScriptedCluster:
    """Has one pod, or none, which no request changes."""

    def __init__(self, image: str = "", status: Any = None):
        metadata: dict[str, Any] = {"name": "monai-made", "uid": "1"}
        spec = {"containers": [{"image": image}]}
        self.pod = {"metadata": metadata, "spec": spec, "status": status or {}} if image else None
        self.calls: list[str] = []

    def fresh(self) -> ScriptedCluster:
        return self

    def get(self, name: str) -> Any:
        return self.pod

    def find(self, selector: str) -> list[Any]:
        self.calls.append(selector)
        return [self.pod] if self.pod else []

    def end_within(self, name: str, seconds: int) -> None:
        self.calls.append("end")

    def node_is_away(self, pod: Any) -> bool:
        return False

    def metrics(self, name: str) -> None:
        return None

    def log(self, name: str, **_: Any) -> Any:
        return iter(())


def runner_on(cluster: ScriptedCluster, tmp_path: Path) -> KubernetesRunner:
    runner = KubernetesRunner(load(), open_store(str(tmp_path / "store")))
    runner.__dict__["cluster"] = cluster
    return runner


@pytest.fixture
def wanted(tmp_path: Path) -> MapJob:
    return job(tmp_path, "")


def test_a_new_try_goes_on_with_the_image_of_the_pod_that_is_there(wanted: MapJob, tmp_path: Path) -> None:
    runner = runner_on(ScriptedCluster(DIGEST), tmp_path)
    files = {"app.json": b'{"command": "run it"}', "pkg.json": b"{}"}
    manifest = {name: base64.b64encode(data).decode() for name, data in files.items()}
    runner.store.write_json(f"cache/manifests/{'a' * 64}.json", manifest)
    assert runner.image("a:1").location == "a:1", "nobody said which job it is for"
    runner.for_job = wanted
    assert runner.image("a:1", always_pull=True).location == DIGEST
    found = runner.find("a:1")
    assert (found.reference, found.location, found.manifest.command) == ("a:1", DIGEST, ("run", "it"))


def test_a_pod_that_its_node_cannot_end_is_not_waited_for_for_ever(
    wanted: MapJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNSTOPPABLE_SECONDS", 0.3)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    cluster, begun = ScriptedCluster(DIGEST, RUNNING), []
    runner = runner_on(cluster, tmp_path)
    runner.begun = lambda: begun.append(1)
    limited = replace(wanted, timeout_seconds=0.1, confinement=replace(wanted.confinement, grace_seconds=0.1))
    with pytest.raises(MapNotStopped, match=r"could not end it within 0\.4 s: its pod monai-made still runs"):
        runner.run(limited, on_line=lambda _: None, check=lambda: None)
    assert (cluster.calls, begun) == (["end"], [1])


def test_pods_that_are_left_are_found_by_their_store_with_whole_labels(wanted: MapJob, tmp_path: Path) -> None:
    cluster = ScriptedCluster(DIGEST, {"phase": "Pending"})
    runner = runner_on(cluster, tmp_path)
    long = "scheduled__2026-01-01T00:00:00+00:00"
    assert cluster.pod is not None
    cluster.pod["metadata"] |= {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"monai.run": label_value(long), "monai.deadline": "1700000000"},
        "annotations": {"monai.run": long},
    }
    (trace,) = runner.traces()
    assert cluster.calls == [f"monai.store={store_label(runner.store)['monai.store']}"]
    assert (trace.name, trace.labels["monai.run"], trace.deadline) == ("monai-made", long, 1_700_000_000)
    assert (trace.status, trace.is_unstarted, trace.reader_seconds) == ("pending", True, None)
    cluster.pod["metadata"]["labels"] = dict(LABELS)
    (trace,) = runner.traces()
    assert trace.reader_seconds == 300 + runner.site.pending_seconds, "what reads manifests may wait for its start"


def test_a_pod_says_until_when_anybody_may_want_it(wanted: MapJob) -> None:
    assert "monai.deadline" not in with_deadline(wanted)
    left = int(with_deadline(replace(wanted, timeout_seconds=60), 600)["monai.deadline"]) - time.time()
    assert left == pytest.approx(60 + 10 + 600 + 3600, abs=5)
