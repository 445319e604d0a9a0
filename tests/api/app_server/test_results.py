"""What a job made, fetched, deleted and finalized through the App Server API."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_monai.jobs.clearing import ClearingKind, Clearings
from airflow_monai.maps.workflows import TASK
from airflow_monai.store.local import LocalStore
from tests.api.app_server import job_scene
from tests.api.app_server.job_scene import LABEL, URL

Api = Callable[..., TestClient]


@pytest.fixture
def job(api: Api, site_store: LocalStore) -> dict[str, Any]:
    """One that has just been asked for."""
    job_scene.register(site_store)
    body = {"map": LABEL, "dataset": job_scene.dataset(site_store)}
    return dict(api("user").post(URL, json=body).json()["jobs"][0])


@pytest.fixture
def done(job: dict[str, Any], site_store: LocalStore) -> dict[str, Any]:
    """One that has ended well."""
    job_scene.finish(site_store, job)
    return job


def url(job: dict[str, Any], path: str) -> str:
    return f"{URL}/{job['id']}/{path}"


def files_of(store: LocalStore, job: dict[str, Any]) -> list[str]:
    top = job_scene.folder_of(store, job).task_key(TASK)
    return sorted(key.removeprefix(f"{top}/") for key in store.list(top))


def test_results_are_listed_and_fetched(api: Api, done: dict[str, Any]) -> None:
    client = api("viewer")
    listed = client.get(url(done, "results")).json()
    assert listed == {
        "files": [
            {"number": 0, "name": "a/seg.dcm", "size": 12},
            {"number": 1, "name": "report.txt", "size": 11},
        ],
        "total": 2,
    }
    assert client.get(url(done, "results"), params={"limit": 1, "offset": 1}).json()["files"] == listed["files"][1:]
    one = client.get(url(done, "results/0"))
    assert (one.status_code, one.content, one.headers["content-type"]) == (200, b"segmentation", "application/dicom")
    assert one.headers["content-disposition"] == 'attachment; filename="seg.dcm"'
    part = client.get(url(done, "results/1"), headers={"range": "bytes=0-2"})
    assert (part.status_code, part.content) == (206, b"all")
    archive = client.get(url(done, "results.zip"))
    with zipfile.ZipFile(io.BytesIO(archive.content)) as whole:
        assert {name: whole.read(name) for name in whole.namelist()} == {
            "a/seg.dcm": b"segmentation",
            "report.txt": b"all is well",
        }
    log = client.get(url(done, "logs"))
    assert log.text == "a line for Mrs Planted\n" and log.headers["content-type"].startswith("text/plain")


def test_reading_is_noted_and_names_no_file(api: Api, done: dict[str, Any]) -> None:
    from airflow.models.log import Log

    for path in ("results", "results/0", "results.zip", "logs"):
        assert api("viewer").get(url(done, path)).status_code == 200
    with create_session() as session:
        entries = session.execute(
            select(Log.event, Log.owner, Log.extra).where(Log.event.like("monai.job.%")).order_by(Log.id)
        ).all()
    read = [entry for entry in entries if entry.owner == "viewer"]
    assert [entry.event for entry in read] == [
        "monai.job.results.list",
        "monai.job.results.read",
        "monai.job.results.read",
        "monai.job.log.read",
    ]
    assert not any("seg" in entry.extra or "report" in entry.extra for entry in read)


def test_what_there_is_not_is_told(api: Api, job: dict[str, Any], site_store: LocalStore) -> None:
    client = api("user")
    for path in ("results", "results/0", "results.zip"):
        assert client.get(url(job, path)).status_code == 409
    assert client.get(url(job, "logs")).status_code == 404
    assert client.delete(url(job, "results")).status_code == 409
    assert client.post(url(job, "finalize")).status_code == 409
    job_scene.finish(site_store, job, error="Task run: lung:1.0.0 ended with exit code 3.")
    assert client.get(url(job, "results")).json() == {"files": [], "total": 0}
    assert client.get(url(job, "results/0")).status_code == client.get(url(job, "results.zip")).status_code == 404
    assert client.get(url(job, "logs")).status_code == 200
    for path in ("results/-1", "results/x", "results?limit=0"):
        assert client.get(url(job, path)).status_code == 400
    for path in ("results", "results/0", "results.zip", "logs"):
        assert client.get(f"{URL}/0d5ff1d1-5f6c-5c3e-8f0a-2f4f4d1f6a11/{path}").status_code == 404


def test_who_may_not_read_data_gets_none(api: Api, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_monai.api.common.access import Caller, Right

    for path in ("results", "results/0", "results.zip", "logs"):
        assert api(None).get(url(done, path)).status_code == 401
    monkeypatch.setattr(Caller, "may", lambda self, right, name=None: right is not Right.READ_DATA)
    for path in ("results", "results/0", "results.zip", "logs"):
        assert api("user").get(url(done, path)).status_code == 403
    assert api("user").get(f"{URL}/{done['id']}").status_code == 200


def test_deleted_results_are_gone_and_the_job_stays(api: Api, done: dict[str, Any], site_store: LocalStore) -> None:
    client = api("user")
    for _ in range(2):
        assert client.delete(url(done, "results")).status_code == 204
    for path in ("results", "results/0", "results.zip"):
        answer = client.get(url(done, path))
        assert answer.status_code == 410 and answer.headers["content-type"] == "application/problem+json"
    assert files_of(site_store, done) == ["g1.log", "task.json"]
    assert b"Planted" not in site_store.read(f"{job_scene.folder_of(site_store, done).task_key(TASK)}/task.json")
    assert client.get(url(done, "logs")).status_code == 200
    told = client.get(f"{URL}/{done['id']}").json()
    assert told["status"] == "SUCCEEDED" and told["outputs"]["available"] is False
    assert told["resources"]["used"]["seconds"] == 2.5


def test_a_finalized_job_loses_its_outputs_when_it_is_time(
    api: Api, done: dict[str, Any], site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = api("user")
    first = client.post(url(done, "finalize"))
    assert first.status_code == 200
    assert client.post(url(done, "finalize")).json() == first.json()
    told = client.get(f"{URL}/{done['id']}").json()["outputs"]
    assert told["available"] and told["until"] and told["finalized_at"]
    assert client.get(url(done, "results/0")).status_code == 200  # for an hour
    assert Clearings(site_store).sweep() == 0

    _age(site_store, done)
    for path in ("results", "results/0", "results.zip", "logs"):  # no process has deleted anything yet
        assert client.get(url(done, path)).status_code == 410
    assert "g1/report.txt" in files_of(site_store, done)
    assert (Clearings(site_store).sweep(), Clearings(site_store).sweep()) == (1, 0)  # a gateway's chore
    assert files_of(site_store, done) == ["task.json"]
    for path in ("results", "results/0", "results.zip", "logs"):
        assert client.get(url(done, path)).status_code == 410
    assert client.post(url(done, "finalize")).status_code == 200
    assert client.get(f"{URL}/{done['id']}").json()["status"] == "SUCCEEDED"


def _age(store: LocalStore, job: dict[str, Any]) -> None:
    """Have it be due since an hour."""
    key = f"jobs/clearing/{job['id']}.g1.finalized.json"
    store.write_json(key, {**store.read_json(key), "due": "2026-03-01T00:00:00+00:00"})


def test_a_site_may_have_them_go_at_once(
    api: Api, done: dict[str, Any], site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__FINALIZE_MINUTES", "0")
    assert api("user").post(url(done, "finalize")).status_code == 200
    assert api("user").get(url(done, "results.zip")).status_code == 410
    assert files_of(site_store, done) == ["task.json"]


def test_a_job_that_is_run_again_has_outputs_again(api: Api, done: dict[str, Any], site_store: LocalStore) -> None:
    client = api("user")
    client.delete(url(done, "results"))
    assert client.get(url(done, "results")).status_code == 410
    job_scene.finish(site_store, done, generation=2)  # somebody cleared its task in the UI
    assert client.get(url(done, "results")).json()["total"] == 2
    assert Clearings(site_store).find(done["id"], 2, ClearingKind.DELETED) is None
    assert client.delete(url(done, "results")).status_code == 204
    assert client.get(url(done, "results")).status_code == 410


def test_what_a_dead_process_began_to_delete_another_ends(
    api: Api, done: dict[str, Any], site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = api("user")

    def dead(*_: Any, **__: Any) -> None:
        raise RuntimeError("it died")

    for place in ("delete_tree", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, place, dead)
            client.delete(url(done, "results"))
        assert client.get(url(done, "results")).status_code == 410
    assert Clearings(site_store).sweep() == 1
    assert files_of(site_store, done) == ["g1.log", "task.json"]


def test_the_outputs_of_a_deleted_dataset_are_gone(api: Api, done: dict[str, Any], site_store: LocalStore) -> None:
    site_store.delete_tree(f"payloads/{done['dataset']}")
    client = api("user")
    for path in ("results", "results/0", "results.zip", "logs"):
        assert client.get(url(done, path)).status_code == 410
    assert client.get(f"{URL}/{done['id']}").json()["status"] == "SUCCEEDED"
    assert client.post(url(done, "finalize")).status_code == 200
    assert client.delete(url(done, "results")).status_code == 204


def test_a_key_that_is_not_the_payload_s_is_not_read(api: Api, done: dict[str, Any], site_store: LocalStore) -> None:
    from dataclasses import replace

    folder = job_scene.folder_of(site_store, done)
    record = folder.record(TASK)
    assert record is not None
    site_store.write("secrets/key", b"secret")
    folder.write_record(replace(record, artifacts={"results": ("secrets/key", *record.artifacts["results"])}))
    listed = api("user").get(url(done, "results")).json()
    assert [item["name"] for item in listed["files"]] == ["a/seg.dcm", "report.txt"]
    assert api("user").get(url(done, "results/0")).content == b"segmentation"
