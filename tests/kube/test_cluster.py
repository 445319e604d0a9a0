"""What only a cluster can do to an application: no card, an eviction, an API server that goes away, no rights."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai import settings
from airflow_monai.errors import MapError, MapInterrupted, RunnerUnavailable
from airflow_monai.failures import is_retried
from airflow_monai.maps.runners.base import MapJob
from airflow_monai.maps.runners.kubernetes.pod import pod_name
from airflow_monai.maps.runners.kubernetes.runner import KubernetesRunner
from airflow_monai.operators.container import ContainerOperator
from airflow_monai.store import open_store
from tests.kube.conftest import Kube, KubeSite
from tests.kube.wire import Wire
from tests.maps.test_process import job
from tests.operators.map_tasks import STUDY, context_of
from tests.operators.test_map_durability import is_ready, slow_task, start_and_kill_worker, starts, wait_until


def once(condition: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something in another thread as soon as a condition holds."""

    def wait() -> None:
        wait_until(condition, 60)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_want_of_a_card_is_told_bounded_and_leaves_nothing(
    site: KubeSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "airflow_monai.maps.runners")
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_PENDING_MINUTES", "0.1")
    with pytest.raises(RunnerUnavailable, match=r"within 0\.1 minutes .*Insufficient nvidia\.com/gpu") as caught:
        site.run(**site.arguments(resources={"gpu": 1}), retries=1)
    assert is_retried(caught.value)
    assert "has been waiting for" in caplog.text
    assert "Insufficient nvidia.com/gpu" in caplog.text
    assert site.traces() == []


def delete(site: KubeSite) -> None:
    for name in site.kube.names(site.store):
        site.kube.api.delete_namespaced_pod(name, site.kube.namespace, grace_period_seconds=0)


def evict(site: KubeSite) -> None:
    for name in site.kube.names(site.store):
        body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name}}
        site.kube.api.create_namespaced_pod_eviction(name, site.kube.namespace, body)


@pytest.mark.parametrize("end", [delete, evict])
def test_a_pod_that_the_cluster_takes_away_is_run_again(site: KubeSite, end: Callable[[KubeSite], None]) -> None:
    once(lambda: is_ready(site), lambda: end(site))
    with pytest.raises(MapInterrupted, match=r"deleted|ended"):
        site.run(**slow_task(site, 60), retries=1)
    record = site.run(**slow_task(site, 0), try_number=2)
    assert record.stats["exit_code"] == 0
    assert record.stats["reattached"] is False
    assert starts(site) == 1, "the output of the first one is gone"


def test_after_the_worker_died_the_same_pod_goes_on(site: KubeSite) -> None:
    before = site.kube.uids_ever()
    arguments = slow_task(site, 6)
    start_and_kill_worker(site, arguments)
    (pod,) = site.kube.pods(site.store)
    record = site.run(**arguments, try_number=2)
    assert record.stats["reattached"] is True
    assert pod.metadata.labels["monai.started_by_try"] == "1"
    assert site.kube.uids_ever() - before == {pod.metadata.uid}, "one pod only was ever made"


def test_the_time_limit_outlives_the_worker(site: KubeSite) -> None:
    arguments = slow_task(site, 60, timeout_minutes=4 / 60)
    start_and_kill_worker(site, arguments)
    time.sleep(5)
    with pytest.raises(AirflowFailException, match="time limit of 4 s"):
        site.run(**arguments, try_number=2)
    assert site.traces() == []


ATTACKS = """
import json, os
def tried(what):
    try:
        what()
        return "done"
    except Exception as error:
        return type(error).__name__
top = os.environ["HOLOSCAN_INPUT_PATH"]
some = next(os.path.join(folder, names[0]) for folder, _, names in os.walk(top) if names)
found = {
    "add to input": tried(lambda: open(top + "x", "w")),
    "change input": tried(lambda: open(some, "ab")),
    "write elsewhere": tried(lambda: open("/opt/x", "w")),
    "become root": tried(lambda: os.setuid(0)),
    "tmp": tried(lambda: open("/tmp/x", "w")),
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    "services": [name for name in os.environ if name.endswith("_SERVICE_HOST") and not name.startswith("KUBERNETES")],
    "store": sorted(os.listdir("/var/holoscan")),
    "user": f"{os.getuid()}:{os.getgid()}",
    "privileges": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("NoNewPrivs", "CapEff"))],
}
json.dump(found, open(os.environ["HOLOSCAN_OUTPUT_PATH"] + "metadata.json", "w"))
"""


def test_an_application_is_shut_in(site: KubeSite) -> None:
    reference = site.maker.make("attacks", ATTACKS, sharedMemory="96Mi")
    found = site.run(**site.arguments(map=reference)).result
    for attack in ("add to input", "change input", "write elsewhere"):
        assert found[attack] in ("OSError", "PermissionError"), attack
    assert found["become root"] == "PermissionError"
    assert found["tmp"] == "done"
    assert found["shm"] >= 96 << 20
    assert found["token"] is False
    assert found["services"] == []
    assert {"input", "output"} <= set(found["store"])
    assert found["user"] == "1000:1000"
    assert found["privileges"] == ["0000000000000000", "1"]


def test_no_line_of_a_talkative_application_is_lost(site: KubeSite) -> None:
    source = "for n in range(30000): print(f'line {n}')"
    site.run(**site.arguments(map=site.maker.make("talk", source)))
    assert site.log().splitlines() == [f"line {n}" for n in range(30000)]


def test_any_image_runs_when_the_task_says_its_command(site: KubeSite) -> None:
    common = {"task_id": "segment", "image": "noop:1.0.0", "runner": "kubernetes", "inputs": [STUDY]}
    paths = {"study": "/data/in", "found": "/data/out"}
    arguments = {**common, "paths": paths, "outputs": [{"name": "found", "type": "Folder"}], "scratch": "/var/scratch"}
    command = ["find /data/in -name '*.dcm' | wc -l > /data/out/count; echo $(id -u) > /var/scratch/x"]
    operator = ContainerOperator(**arguments, entrypoint=["/bin/sh", "-c"], command=command)
    operator.execute(context_of(operator, site.payload_id))
    assert (site.output() / "found" / "count").read_text().strip() == "3"
    silent = ContainerOperator(**arguments)
    with pytest.raises(AirflowFailException, match=r"write args\.entrypoint"):
        silent.execute(context_of(silent, site.payload_id, try_number=2, cleared=1))


def test_the_store_may_lie_in_a_claim(site: KubeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("MONAI_KUBE_VOLUME"):
        pytest.skip("all tests of this run use the volume that MONAI_KUBE_VOLUME says")
    store, api, size = Path(site.store), site.kube.api, {"storage": "1Gi"}
    name = f"{site.kube.namespace}-store"
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {**common, "capacity": size, "hostPath": {"path": str(store.parent)}}
    api.create_persistent_volume({"metadata": {"name": name}, "spec": volume})
    try:
        claim = {**common, "resources": {"requests": size}, "volumeName": name}
        body = {"metadata": {"name": "monai"}, "spec": claim}
        api.create_namespaced_persistent_volume_claim(site.kube.namespace, body)
        place = json.dumps({"claim": "monai", "path": store.name})
        monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_STORE_VOLUME", place)
        record = site.run(**site.arguments(outputs=[{"name": "result", "type": "OT"}]))
        assert [key.rpartition("/")[2] for key in record.artifacts["result"]] == ["result.dcm"]
    finally:
        api.delete_namespaced_persistent_volume_claim("monai", site.kube.namespace)
        api.delete_persistent_volume(name)


# --- the runner by itself


def job_of(site: KubeSite, source: str, name: str, **change: object) -> MapJob:
    """A job without an operator, in the site's store."""
    made = job(Path(site.store), "", labels={"monai.dag": "x", "monai.generation": "1"}, user="1000:1000", **change)
    manifest = made.found.manifest
    found = type(made.found)(
        "noop:1.0.0", "noop:1.0.0", type(manifest)(**{**fields(manifest), "command": ("python3", "-c", source)})
    )
    return type(made)(**{**fields(made), "name": name, "found": found})


def fields(of: object) -> dict[str, object]:
    return {name: getattr(of, name) for name in of.__dataclass_fields__}  # type: ignore[attr-defined]


def runner_of(site: KubeSite) -> KubernetesRunner:
    return KubernetesRunner(settings.load(), open_store(site.store))


COUNTS = """
import time
with open("/var/holoscan/output/starts", "a") as file: file.write("started ")
print("ready", flush=True)
time.sleep(2)
print("done", flush=True)
"""


def test_two_workers_of_one_job_share_one_pod(site: KubeSite) -> None:
    wanted, before = job_of(site, COUNTS, "monai-shared"), site.kube.uids_ever()
    runners = [runner_of(site) for _ in range(4)]
    lines: list[list[bytes]] = [[] for _ in runners]

    def run(number: int) -> int:
        return runners[number].run(wanted, on_line=lines[number].append, check=lambda: None).code

    with ThreadPoolExecutor(len(runners)) as pool:
        assert list(pool.map(run, range(len(runners)))) == [0] * len(runners)
    assert lines == [[b"ready", b"done"]] * len(runners)
    assert (wanted.output / "starts").read_text() == "started "
    assert runners[0].holds(wanted.name, wanted.state)
    runners[0].discard(wanted)
    assert not runners[0].holds(wanted.name, wanted.state)
    assert len(site.kube.uids_ever() - before) == 1


def test_a_killed_job_tells_its_exit(site: KubeSite) -> None:
    wanted, runner = (
        job_of(site, "import time; print('ready', flush=True); time.sleep(60)", "monai-killed"),
        runner_of(site),
    )
    seen: list[bytes] = []
    once(lambda: bool(seen), lambda: runner.kill(wanted))
    ended = runner.run(wanted, on_line=seen.append, check=lambda: None)
    assert ended.killed
    runner.discard(wanted)


def test_a_stubborn_application_is_removed_all_the_same(site: KubeSite) -> None:
    source = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    wanted, runner = job_of(site, source, "monai-stubborn"), runner_of(site)

    def check() -> None:
        if seen:
            raise MapInterrupted("enough")

    seen: list[bytes] = []
    with pytest.raises(MapInterrupted):
        runner.run(wanted, on_line=seen.append, check=check)
    begun = time.monotonic()
    runner.discard(wanted)
    assert time.monotonic() - begun < 20
    assert site.kube.names() == []


@pytest.fixture
def wire(site: KubeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Between the runner and the API server."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    server = config["clusters"][0]["cluster"]
    address = urlsplit(server["server"])
    if address.hostname != "127.0.0.1":
        pytest.skip("the API server is not on this host")
    wire = Wire(address.port or 443)
    server["server"] = f"https://127.0.0.1:{wire.port}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv(
        "AIRFLOW_CONN_KUBE_WIRE",
        json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(tmp_path / "kubeconfig")}}),
    )
    monkeypatch.setenv("AIRFLOW__MONAI__KUBERNETES_CONN_ID", "kube_wire")
    yield wire
    wire.close()


TICKS = "import time\nfor n in range(40): print(f'tick {n}', flush=True); time.sleep(0.3)"


def test_an_api_server_that_goes_away_is_borne_with(site: KubeSite, wire: Wire) -> None:
    wanted, runner = job_of(site, TICKS, "monai-cut"), runner_of(site)
    seen: list[bytes] = []
    once(lambda: len(seen) > 3, wire.cut)
    once(lambda: wire.is_cut, lambda: (time.sleep(8), wire.mend()))
    ended = runner.run(wanted, on_line=seen.append, check=lambda: None)
    assert ended.code == 0
    assert [line.decode() for line in seen] == [f"tick {n}" for n in range(40)]
    runner.discard(wanted)


def test_an_api_server_that_stays_away_is_worth_a_retry_that_finds_the_pod(
    site: KubeSite, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_monai.maps.runners.kubernetes.runner.UNREACHABLE_SECONDS", 3.0)
    wanted, runner = job_of(site, TICKS, "monai-gone"), runner_of(site)
    seen: list[bytes] = []
    once(lambda: len(seen) > 3, wire.cut)
    with pytest.raises(RunnerUnavailable, match="cannot be reached"):
        runner.run(wanted, on_line=seen.append, check=lambda: None)
    wire.mend()
    again: list[bytes] = []
    ended = runner_of(site).run(wanted, on_line=again.append, check=lambda: None)
    assert (ended.code, ended.reattached, len(again)) == (0, True, 40)
    runner_of(site).discard(wanted)


def test_a_right_that_is_lacking_is_named(site: KubeSite) -> None:
    runner = runner_of(site)
    runner.cluster.api.set_default_header("Impersonate-User", "nobody")
    with pytest.raises(MapError, match=r'cannot get resource "pods"') as caught:
        runner.run(job_of(site, "", "monai-forbidden"), on_line=lambda _: None, check=lambda: None)
    assert not is_retried(caught.value)
    assert "needs a role" in str(caught.value)


def test_a_quota_that_is_used_up_is_worth_a_retry(site: KubeSite) -> None:
    body = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}}
    site.kube.api.create_namespaced_resource_quota(site.kube.namespace, body)
    try:
        wait_until(lambda: bool(site.kube.api.read_namespaced_resource_quota("few", site.kube.namespace).status.hard))
        with pytest.raises(RunnerUnavailable, match="quota"):
            runner_of(site).run(job_of(site, "", "monai-quota"), on_line=lambda _: None, check=lambda: None)
    finally:
        site.kube.api.delete_namespaced_resource_quota("few", site.kube.namespace)


def test_a_name_that_kubernetes_does_not_allow_finds_its_pod(site: KubeSite) -> None:
    wanted, runner = job_of(site, "print('x')", "monai-Große_Aufgabe.1-0123"), runner_of(site)
    assert runner.run(wanted, on_line=lambda _: None, check=lambda: None).code == 0
    assert site.kube.names() == [pod_name(wanted.name)]
    assert runner.run(wanted, on_line=lambda _: None, check=lambda: None).reattached
    runner.discard(wanted)
    assert site.kube.names() == []


def test_nothing_is_left(cluster: Kube) -> None:
    assert [name for name in cluster.names() if not name.startswith("monai-manifest-")] == []
