"""`airflow monai jobs` against a server; what scheduler and workers do, the scene does."""

from __future__ import annotations

import json
import signal
import threading
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.cli.remote import jobs as remote
from airflow_monai.cli.remote.following import follow
from airflow_monai.datasets.associations import Associations
from airflow_monai.store.local import LocalStore
from tests.api.app_server import job_scene
from tests.api.app_server.job_scene import LABEL

Command = Callable[..., str]


@pytest.fixture
def jobs(command: Command) -> Command:
    return partial(command, "jobs", who="user")


@pytest.fixture
def dataset(site_store: LocalStore, airflow_tables: str) -> str:
    job_scene.register(site_store)
    return job_scene.dataset(site_store)


def test_a_job_from_its_begin_to_its_results(jobs: Command, dataset: str, site_store: LocalStore) -> None:
    words = ("run", "--map", LABEL, "--dataset", dataset, "--key", "study 17")
    (job,) = json.loads(jobs(*words, "--json"))["jobs"]
    assert job["id"] in jobs(*words), "the same key is the same job"
    assert json.loads(jobs("show", job["id"], "--json"))["status"] == "QUEUED"
    assert "no results yet" in jobs("results", job["id"], code=1)
    assert "not ended yet" in jobs("finalize", job["id"], code=1)
    job_scene.finish(site_store, job)
    jobs("wait", job["id"])
    shown = jobs("show", job["id"])
    assert "status: SUCCEEDED" in shown and "resources.used.seconds: 2.5" in shown
    assert "a/seg.dcm" in jobs("results", job["id"])
    fetched = json.loads(jobs("results", job["id"], "--output", "out", "--json"))
    assert [Path(one["file"]).read_bytes() for one in fetched] == [b"segmentation", b"all is well"]
    jobs("results", job["id"], "--output", "out.zip")
    assert zipfile.ZipFile("out.zip").namelist() == ["a/seg.dcm", "report.txt"]
    assert jobs("logs", job["id"]) == "a line for Mrs Planted\n"
    assert json.loads(jobs("logs", job["id"], "--json"))["log"] == "a line for Mrs Planted\n"
    assert "until" in jobs("finalize", job["id"])
    jobs("delete-results", job["id"])
    assert "are gone" in jobs("results", job["id"], "--output", "more", code=1)
    assert not [path for path in Path().rglob("*") if path.name.endswith(".part")]


def test_all_that_a_dataset_is_associated_with_is_waited_for(
    jobs: Command, dataset: str, site_store: LocalStore
) -> None:
    job_scene.register(site_store, "bone")
    for label in (LABEL, "bone:1.0.0"):
        Associations(site_store).add(dataset, label, "user")
    begun = json.loads(jobs("run", "--dataset", dataset, "--key", "k", "--json"))["jobs"]
    assert sorted(job["map"] for job in begun) == ["bone:1.0.0", LABEL]

    def work() -> None:
        worked.set()
        job_scene.set_run(begun[0]["id"], "running", "running")
        job_scene.finish(site_store, begun[0])
        job_scene.finish(site_store, begun[1], error="it ended with exit code 3")

    worked = threading.Event()
    later = threading.Timer(1.5, work)
    later.start()
    told = jobs("run", "--dataset", dataset, "--key", "k", "--wait", code=1)
    assert worked.is_set(), "it has waited"
    later.join()
    assert begun[1]["id"] in told
    listed = json.loads(jobs("list", "--status", "failed", "--json"))
    assert [job["id"] for job in listed] == [begun[1]["id"]]
    assert len(jobs("list", "--dataset", dataset, "--limit", "1").splitlines()) == 2
    assert json.loads(jobs("list", "--map", "none:1.0", "--json")) == []


def test_a_job_is_cancelled(jobs: Command, dataset: str) -> None:
    (job,) = json.loads(jobs("run", "--map", LABEL, "--dataset", dataset, "--json"))["jobs"]
    assert job["id"] in jobs("cancel", job["id"])
    jobs("wait", job["id"], code=1)
    assert json.loads(jobs("list", "--json"))[0]["status"] == "CANCELLED"


def test_ctrl_c_ends_the_waiting_and_not_the_job(jobs: Command, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **options: Any) -> Any:
        threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
        return follow(*args, **options)

    monkeypatch.setattr(remote, "follow", interrupted)
    told = jobs("run", "--map", LABEL, "--dataset", dataset, "--wait", code=130)
    (job,) = json.loads(jobs("list", "--json"))
    assert f"the jobs go on. 'airflow monai jobs wait {job['id']}'" in told and job["status"] == "QUEUED"


def test_what_cannot_be_done(jobs: Command, dataset: str) -> None:
    assert "no such registered MAP" in jobs("run", "--map", "none:1.0", "--dataset", dataset, code=2)
    assert "no such job" in jobs("show", "0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11", code=1).lower()
    jobs("show", "..", code=2)
    told = jobs("run", "--dataset", dataset, "--url", "http://127.0.0.1:9", code=2)
    assert "does not answer" in told and "--key" in told
    assert "who asks" in jobs("list", code=2, who="nobody")
