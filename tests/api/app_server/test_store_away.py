"""The store fails at each step of a request in turn, before the step is done or after it: the caller is told so,
nothing half done is to be seen, and the same request does it, once, when the store is well again.

The store is a real folder whose writing methods are made to fail; that a disk which is really full does so is seen in
``test_a_disk_that_is_full``.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_monai.errors import StoreError, StoreFull
from airflow_monai.store.local import LocalStore
from tests.api.app_server import job_scene
from tests.api.app_server.conftest import dicom, left_in, study_files, zipped
from tests.api.app_server.job_scene import LABEL
from tests.small_disk import mounted

Api = Callable[..., TestClient]
WRITES = ("write", "create", "create_all", "put_all", "append", "delete", "delete_tree")
MOST_STEPS = 60
WORKFLOW = """
name: written
version: "1"
informatics_gateway: {ae_title: WRITTEN}
tasks: [{id: route, type: router}]
"""


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, at: int, error: StoreError, *, done: bool) -> Iterator[list[str]]:
    """The store fails at its ``at``-th write, and at all after that; the names of the writes that were asked for.

    :param done: the first of them has its effect all the same: only the answer was lost.
    """
    said: list[str] = []
    with monkeypatch.context() as patch:
        for name in WRITES:
            real = getattr(LocalStore, name)

            def write(self: LocalStore, *args: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
                said.append(_name)
                if len(said) == at and done:
                    _real(self, *args, **more)
                if len(said) >= at:
                    raise error
                return _real(self, *args, **more)

            patch.setattr(LocalStore, name, write)
        yield said


def upload(client: TestClient, files: bytes) -> Any:
    headers = {"content-type": "application/zip", "idempotency-key": "k"}
    return client.post("/app-server/datasets", content=files, headers=headers)


def requests(api: Api, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, Any]]:
    """What is asked for, and how many there are of it."""
    from airflow.sdk import crypto
    from cryptography.fernet import Fernet

    monkeypatch.setenv("AIRFLOW__MONAI__NOTIFICATION_HOSTS", "127.0.0.1")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    crypto.get_fernet.cache_clear()
    job_scene.register(store)
    client, dataset, files = api("admin"), job_scene.dataset(store), zipped(study_files(2))
    job = {"json": {"map": LABEL, "dataset": dataset}, "headers": {"Idempotency-Key": "k"}}
    workflow = {"content": WORKFLOW, "headers": {"content-type": "application/yaml"}}
    handlers = "/app-server/notification-handlers"

    def total(path: str) -> Callable[[], int]:
        return lambda: int(client.get(path).json()["total"])

    def workflows() -> int:
        return sum(one["AETitle"] == "WRITTEN" for one in _workflows(client))

    return {
        "datasets": (lambda: upload(client, files), total("/app-server/datasets")),
        "jobs": (lambda: client.post("/app-server/jobs", **job), total("/app-server/jobs")),
        "workflows": (lambda: client.post("/workflow-manager/workflows", **workflow), workflows),
        "handlers": (
            lambda: client.post(handlers, json={"url": "http://127.0.0.1/"}, headers={"Idempotency-Key": "k"}),
            lambda: len(client.get(handlers).json()["handlers"]),
        ),
    }


def _workflows(client: TestClient) -> list[dict[str, Any]]:
    found = client.get("/workflow-manager/workflows", params={"pageSize": 100}).json()["Data"]
    return [{"AETitle": one["workflow"]["informatics_gateway"]["ae_title"]} for one in found]


@pytest.mark.parametrize("what", ["datasets", "jobs", "workflows", "handlers"])
@pytest.mark.parametrize("done", [False, True])
def test_a_store_that_fails_at_any_step(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch, what: str, done: bool
) -> None:
    ask, count = requests(api, site_store, monkeypatch)[what]
    error, status = (StoreError("away"), 503) if done else (StoreFull("full"), 507)
    seen = []
    for at in range(1, MOST_STEPS):
        with failing(monkeypatch, at, error, done=done) as said:
            answer = ask()
        if len(said) < at:
            break
        there = count()
        seen.append((at, said[-1], answer.status_code, there))
        assert there <= 1, seen
        if answer.status_code < 400:  # what failed was not needed for what was promised
            assert there == 1, seen
            continue
        assert answer.status_code == status, (seen, answer.text)
        assert answer.headers["content-type"] == "application/problem+json" and "retry-after" in answer.headers
        assert not list(site_store.root.rglob(".tmp-*")) and not list(site_store.root.rglob("upload-*")), seen
    assert seen and answer.status_code in (200, 201, 409), (seen, answer.text)
    assert count() == 1, seen


@pytest.fixture
def small_disk(site_store: LocalStore) -> Iterator[Path]:
    """The store is on a file system of two mebibytes."""
    with mounted(site_store.root, "2m") as folder:
        yield folder


@pytest.mark.parametrize("what", ["datasets", "jobs", "workflows"])
def test_a_disk_that_is_full(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch, small_disk: Path, what: str
) -> None:
    ask, count = requests(api, site_store, monkeypatch)[what]
    if what == "datasets":  # it gets full in the midst of it
        too_much = zipped({"a.dcm": dicom(size=3 << 20)}, zipfile.ZIP_STORED)
        answer = upload(api("admin"), too_much)
        assert answer.status_code == 507 and answer.headers["content-type"] == "application/problem+json"
        assert count() == 0 and not [key for key in left_in(site_store) if key.startswith(("incoming", "datasets"))]
    filler = small_disk / "filler"
    with open(filler, "wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    answer = ask()
    assert answer.status_code == 507 and "no space left" in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json" and "retry-after" in answer.headers
    assert count() == 0
    filler.unlink()
    assert ask().status_code in (200, 201)
    assert count() == 1
