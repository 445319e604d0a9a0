"""Map tasks whose store is in a bucket: what they read and write is copied, and only what is whole and ours counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import Fenced, RunnerUnavailable, StoreError
from airflow_monai.maps.workspace import local, remove_stale
from airflow_monai.operators.base import task_run_from
from airflow_monai.operators.map import MapOperator
from airflow_monai.store.runs import Fence
from airflow_monai.store.s3 import S3Store
from airflow_monai.tasks.artifacts import resolve_input
from tests.conftest import require
from tests.fixtures_maps import MAPS_FOLDER
from tests.operators.conftest import Site
from tests.operators.made_maps import MapMaker, containers_of
from tests.operators.map_tasks import context_of, make_payload
from tests.operators.test_map_durability import slow_task, wait_until
from tests.s3_server import S3Server, s3  # noqa: F401

only_process = pytest.mark.parametrize("site", ["process"], indirect=True)
"""What is the same for all runners."""


@dataclass
class BucketSite(Site):
    """A site whose store is in a bucket.

    :param scratch: of this host.
    """

    scratch: Path = Path()

    def output(self, generation: int = 1) -> Path:
        return local(self.folder.store, self.folder.output_key("segment", -1, generation))

    def published(self, generation: int = 1) -> dict[str, bytes]:
        """Everything in the bucket below the output folder of a generation."""
        store, key = self.folder.store, self.folder.output_key("segment", -1, generation)
        return {name[len(key) + 1 :]: store.read(name) for name in store.list(key)}

    def traces(self) -> list[str]:
        files = [path.name for path in self.scratch.rglob("*") if path.is_file() and path.name != "id"]
        notes = [key for key in self.folder.store.list("payloads") if key.endswith(".place")]
        return files + notes + (containers_of(self.store) if self.runner == "docker" else [])


@pytest.fixture(params=["docker", "process"])
def site(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    s3: S3Server,  # noqa: F811
) -> Iterator[BucketSite]:
    runner = request.param
    require("docker" if runner == "docker" else "bubblewrap")
    if runner == "docker":
        request.getfixturevalue("map_images")
    store, made = f"s3://{s3.bucket()}/site", tmp_path / "maps"
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_STORE", s3.connection)
    for option, value in {
        "STORE": store,
        "STORE_CONN_ID": "monai_store",
        "SPOOL_FOLDER": str(tmp_path / "spool"),
        "SCRATCH_FOLDER": str(tmp_path / "scratch"),
        "RUNNER": runner,
        "MAP_PATH": os.pathsep.join((str(MAPS_FOLDER), str(made))),
        "TASK_LOG": "filtered",
        "IMAGE_PULL": "never",
        "STOP_GRACE_SECONDS": "1",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    payload_id = make_payload(store, source=tmp_path / "study")
    site = BucketSite(runner, store, payload_id, MapMaker(runner, made), scratch=tmp_path / "scratch")
    yield site
    for worker in site.workers:
        worker.kill()
        worker.wait()
    site.maker.clean()


def test_input_comes_down_and_output_goes_up(site: BucketSite) -> None:
    record = site.run(**site.arguments(outputs=[{"name": "out", "type": "Folder", "value": ""}]))
    folder = site.folder
    assert record.output_dir == f"{folder.output_key('segment', -1, 1)}/t1"
    keys = list(folder.store.list(record.output_dir))
    assert keys and all(key.startswith(f"{record.output_dir}/") for key in record.artifacts["out"])
    assert len(folder.store.read(keys[0])) == folder.store.size(keys[0]) > 0
    assert record.result, "its metadata.json was read"
    assert site.log(), "the whole log is in the bucket"
    assert site.traces() == [], "nothing is left on this host"


def test_a_killed_worker_s_application_is_followed_and_nothing_is_copied_twice(
    site: BucketSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = slow_task(site, 6)
    worker, _ = site.worker(arguments)
    wait_until(lambda: (site.output() / "starts").exists(), 60)
    worker.kill()
    worker.wait()

    def again(*_: object) -> None:
        raise AssertionError("the input was there already")

    monkeypatch.setattr(S3Store, "fetch_all", again)
    record = site.run(**arguments, try_number=2)
    assert record.stats["reattached"] is True
    assert site.published() == {"t2/starts": b"started\n"}
    assert site.log().splitlines() == ["ready"] and site.traces() == []


HANG = """
import sys, time
from airflow_monai.store import s3
from tests.operators import map_tasks
def put_tree(store, folder, prefix, check):
    store.write(prefix + "/half", b"half")
    print("half", flush=True)
    time.sleep(600)
s3.S3Store.put_tree = put_tree
map_tasks.main(*sys.argv[1:])
"""


@only_process
def test_a_worker_killed_while_it_copies_leaves_nothing_that_counts(site: BucketSite) -> None:
    arguments = slow_task(site, 0.1)
    worker = subprocess.Popen(
        [sys.executable, "-c", HANG, site.store, site.payload_id, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    site.workers.append(worker)
    assert worker.stdout is not None
    task_process = int(worker.stdout.readline())
    assert "half\n" in iter(worker.stdout.readline, "")
    os.kill(task_process, 9)
    worker.kill()
    worker.wait()
    assert site.folder.record("segment") is None and site.published() == {"t1/half": b"half"}
    record = site.run(**arguments, try_number=2)
    assert record.artifacts["starts"] == (f"{record.output_dir}/starts",)
    assert site.published() == {"t2/starts": b"started\n"}, "started once, copied whole, and the half is gone"
    assert site.traces() == []


@only_process
def test_a_bucket_that_goes_away_costs_no_second_run(site: BucketSite, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = slow_task(site, 0.1, retries=1)

    def away(*_: object) -> None:
        raise StoreError("The bucket is away.")

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="away"):
        patch.setattr(S3Store, "put_tree", away)
        site.run(**arguments)
    assert site.folder.record("segment").output_dir is None  # type: ignore[union-attr]
    assert (site.output() / "starts").exists(), "kept for the retry"
    site.run(**arguments, try_number=2)
    assert site.published() == {"t2/starts": b"started\n"} and site.traces() == []


@only_process
def test_an_older_try_publishes_nothing(site: BucketSite, monkeypatch: pytest.MonkeyPatch) -> None:
    put_tree = S3Store.put_tree

    def taken_over(store: S3Store, folder: Path, prefix: str, check: Any) -> None:
        Fence(site.folder, "segment", -1, 2).claim()
        put_tree(store, folder, prefix, check)

    monkeypatch.setattr(S3Store, "put_tree", taken_over)
    arguments = slow_task(site, 0.1)
    with pytest.raises(Fenced):
        site.run(**arguments)
    assert site.published() == {} and site.folder.record("segment") is None
    monkeypatch.setattr(S3Store, "put_tree", put_tree)
    site.run(**arguments, try_number=2)
    assert site.published() == {"t2/starts": b"started\n"}


def test_a_worker_with_another_scratch_folder_does_not_judge(
    site: BucketSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = slow_task(site, 4, retries=3)
    worker, _ = site.worker(arguments)
    wait_until(lambda: (site.output() / "starts").exists(), 60)
    worker.kill()
    worker.wait()
    with monkeypatch.context() as patch, pytest.raises(RunnerUnavailable, match="scratch_folder"):
        patch.setenv("AIRFLOW__MONAI__SCRATCH_FOLDER", str(tmp_path / "elsewhere"))
        site.run(**arguments, try_number=2)
    site.run(**arguments, try_number=3)
    assert site.published() == {"t3/starts": b"started\n"} and site.traces() == []


@only_process
def test_a_cleared_task_publishes_anew_beside_what_it_had(site: BucketSite) -> None:
    arguments = slow_task(site, 0.1)
    site.run(**arguments)
    record = site.run(**arguments, try_number=2, cleared=1)
    assert record.generation == 2
    assert site.published(1) == {"t1/starts": b"started\n"} and site.published(2) == {"t2/starts": b"started\n"}
    run = task_run_from(context_of(MapOperator(**arguments), site.payload_id))
    found = resolve_input(run, "{{ context.executions.segment.artifacts.starts }}")
    assert found.keys == (f"{record.output_dir}/starts",)
    assert site.traces() == []


@only_process
def test_a_growing_log_can_be_read_in_the_bucket(site: BucketSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.maps.workspace.LOG_SECONDS", 0.2)
    arguments = slow_task(site, 5)
    worker = threading.Thread(target=lambda: site.run(**arguments))
    worker.start()
    key = site.folder.log_key("segment", -1, 1)
    deadline = time.monotonic() + 90
    while not (site.folder.store.exists(key) and b"ready" in site.folder.store.read(key)):
        assert time.monotonic() < deadline and worker.is_alive()
        time.sleep(0.1)
    assert site.folder.record("segment") is None
    worker.join()
    assert site.log().splitlines() == ["ready"]


@only_process
def test_what_a_dead_host_left_is_removed_after_two_weeks(site: BucketSite) -> None:
    """It may name patients; the tasks were done elsewhere meanwhile."""
    store = site.folder.store
    old, new = (local(store, f"payloads/{name}/workflows/dag/run/task/g1.in/image.dcm") for name in ("old", "new"))
    for path in (old, new):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"image")
    long_ago = time.time() - 15 * 86_400
    for path in (old, *old.parents, new, *list(new.parents)[:2]):
        if path != site.scratch and path.is_relative_to(site.scratch):
            os.utime(path, (long_ago, long_ago))
    assert remove_stale(store) == 1
    assert not old.exists() and new.exists()
    assert remove_stale(store) == 0
