"""The kubernetes runner's own decisions, on a cluster that a test scripts; `make test-kube` runs on a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import Fenced, MapInterrupted, MapNotFound, RunnerUnavailable
from airflow_monai.maps.runners.base import Exit, MapJob
from airflow_monai.maps.runners.kubernetes import runner as kubernetes
from airflow_monai.maps.runners.kubernetes.runner import KubernetesRunner
from airflow_monai.settings import Settings
from airflow_monai.store import open_store
from tests.maps.test_process import job

BEGUN, ENDED = "2026-01-05T10:00:00Z", "2026-01-05T10:00:03Z"
RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {"startedAt": BEGUN}}}]}
TERMINATED = {"exitCode": 0, "reason": "Completed", "startedAt": BEGUN, "finishedAt": ENDED}
SUCCEEDED = {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": TERMINATED}}]}
WANTS_CARD = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no card"}],
}
LOG = b"2026-01-05T10:00:01Z one\n2026-01-05T10:00:02Z two\n"


class ScriptedCluster:
    """Holds pods in memory; each look at one shows its next status."""

    def __init__(self, statuses: list[dict[str, Any]], identity: str = "ONE"):
        self.statuses = statuses
        self.identity = identity
        self.pods: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.away = 0

    def fresh(self) -> ScriptedCluster:
        return self

    def identities(self) -> list[str]:
        return [self.identity]

    def create(self, pod: dict[str, Any]) -> bool:
        self.calls.append("create")
        self.pods[pod["metadata"]["name"]] = {"metadata": {"uid": "1", "creationTimestamp": BEGUN, **pod["metadata"]}}
        return True

    def get(self, name: str) -> dict[str, Any] | None:
        if self.away > 0:
            self.away -= 1
            raise RunnerUnavailable("away")
        if name not in self.pods:
            return None
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return {**self.pods[name], "status": status}

    def delete(self, name: str, grace: int, uid: str = "") -> None:
        self.calls.append(f"delete {grace}")
        self.pods.pop(name, None)

    def log(self, name: str, *, since: str, follow: bool) -> Iterator[bytes]:
        yield LOG

    def events(self, pod: Any) -> list[dict[str, Any]]:
        return []

    def metrics(self, name: str) -> None:
        return None


def runner_on(cluster: ScriptedCluster, tmp_path: Path) -> KubernetesRunner:
    site = Settings("s", "w", "kubernetes", (), "", "", "", "", "", 0, 0.0, "filtered")
    runner = KubernetesRunner(site, open_store(str(tmp_path)))
    runner.__dict__["cluster"] = cluster
    return runner


def run(runner: KubernetesRunner, wanted: MapJob, check: Callable[[], None] = lambda: None) -> tuple[Exit, list[bytes]]:
    lines: list[bytes] = []
    return runner.run(wanted, on_line=lines.append, check=check), lines


@pytest.fixture
def wanted(tmp_path: Path) -> MapJob:
    return job(tmp_path, "", user="1000:1000")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_STORE_VOLUME", '{"claim": "monai"}')
    monkeypatch.setattr(kubernetes, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(kubernetes, "AWAY_SECONDS", 0.02)


def left(wanted: MapJob) -> list[str]:
    return sorted(path.name for path in wanted.state.parent.iterdir() if path != wanted.output)


def test_it_makes_follows_and_removes_a_pod(wanted: MapJob, tmp_path: Path) -> None:
    cluster = ScriptedCluster([RUNNING, RUNNING, SUCCEEDED])
    runner = runner_on(cluster, tmp_path)
    ended, lines = run(runner, wanted)
    assert (ended.code, ended.seconds, ended.reattached) == (0, 3.0, False)
    assert lines == [b"one", b"two"]
    again, lines = run(runner, wanted)
    assert (again.reattached, lines) == (True, [b"one", b"two"]), "its verdict can be had again"
    assert runner.holds(wanted.name, wanted.state)
    runner.discard(wanted)
    assert cluster.calls == ["create", "delete 2"]
    assert left(wanted) == []


def test_what_an_earlier_pod_left_is_gone_before_the_next_one_begins(wanted: MapJob, tmp_path: Path) -> None:
    wanted.output.mkdir(parents=True)
    (wanted.output / "old").touch()
    run(runner_on(ScriptedCluster([SUCCEEDED]), tmp_path), wanted)
    assert list(wanted.output.iterdir()) == []


def test_an_api_server_that_is_away_is_borne_with(wanted: MapJob, tmp_path: Path) -> None:
    cluster = ScriptedCluster([RUNNING, SUCCEEDED])
    runner = runner_on(cluster, tmp_path)

    def go_away_once() -> None:
        if cluster.pods and "away" not in cluster.calls:
            cluster.calls.append("away")
            cluster.away = 5

    assert run(runner, wanted, go_away_once)[0].code == 0


def test_want_of_a_card_ends_and_leaves_nothing(
    wanted: MapJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_PENDING_MINUTES", "0.005")
    caplog.set_level("INFO", "airflow_monai.maps.runners")
    cluster = ScriptedCluster([WANTS_CARD])
    with pytest.raises(RunnerUnavailable, match="no card"):
        run(runner_on(cluster, tmp_path), wanted)
    assert "Unschedulable: no card" in caplog.text
    assert cluster.pods == {}
    assert left(wanted) == []


def test_a_try_that_is_fenced_leaves_the_pod_alone(wanted: MapJob, tmp_path: Path) -> None:
    cluster = ScriptedCluster([RUNNING])

    def check() -> None:
        if cluster.pods:
            raise Fenced("a newer try")

    with pytest.raises(Fenced):
        run(runner_on(cluster, tmp_path), wanted, check)
    assert cluster.calls == ["create"]


def test_a_pod_that_somebody_deletes_is_worth_a_retry(wanted: MapJob, tmp_path: Path) -> None:
    cluster = ScriptedCluster([RUNNING])
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) > 6:
            cluster.pods.clear()

    with pytest.raises(MapInterrupted, match="deleted"):
        run(runner_on(cluster, tmp_path), wanted, check)


def test_another_cluster_does_not_start_a_second_copy(wanted: MapJob, tmp_path: Path) -> None:
    run(runner_on(ScriptedCluster([SUCCEEDED]), tmp_path), wanted)
    second = ScriptedCluster([SUCCEEDED], "TWO")
    with pytest.raises(RunnerUnavailable, match="another Kubernetes cluster"):
        run(runner_on(second, tmp_path), wanted)
    assert second.calls == []


def test_a_registered_image_needs_a_repository(wanted: MapJob, tmp_path: Path) -> None:
    runner, manifest = runner_on(ScriptedCluster([]), tmp_path), wanted.found.manifest
    digest = f"registry.example/seg@sha256:{'0' * 64}"
    assert runner.find_registered(digest, manifest).location == digest
    with pytest.raises(MapNotFound, match="push it to a registry"):
        runner.find_registered(f"sha256:{'0' * 64}", manifest)


def test_it_leases_no_cards_and_asks_for_none_twice(wanted: MapJob, tmp_path: Path) -> None:
    runner = runner_on(ScriptedCluster([]), tmp_path)
    assert runner.leases_cards is False
    assert runner._placed(replace(wanted, gpus=1, card_class="a100")).card_mig == ""
