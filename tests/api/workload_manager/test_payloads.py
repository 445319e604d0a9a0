"""Payloads that are uploaded for an AE title."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from airflow_monai.local.phantom import generate
from airflow_monai.store.intake import PENDING
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_id_of

Api = Callable[..., TestClient]
PAYLOADS = "/workload-manager/payloads"
WORKFLOW = """
name: look
version: "1"
informatics_gateway: {ae_title: LOOK}
tasks:
  - {id: route, type: router, task_destinations: []}
"""


@pytest.fixture
def listened(site_store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "workflows" / "look.yaml").write_text(WORKFLOW)


@pytest.fixture
def archive(tmp_path: Path) -> tuple[bytes, str]:
    """A study in a zip archive with a text beside it, and its UID."""
    study = generate(tmp_path / "study", slices=3, rows=32)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in study.files:
            file.write(path, path.name)
        file.writestr("README.txt", "hello")
    return packed.getvalue(), study.study_uid


def test_an_uploaded_study_arrives_at_its_ae_title(
    api: Api, listened: None, archive: tuple[bytes, str], site_store: LocalStore
) -> None:
    data, study_uid = archive
    client, headers = api("user"), {"content-type": "application/zip"}
    for _ in range(2):
        answer = client.post(f"{PAYLOADS}?ae_title=LOOK", content=data, headers=headers)
        assert answer.status_code == 202, answer.text
        payload_id = payload_id_of(study_uid, "LOOK", 0)
        assert answer.json()["payload_ids"] == [payload_id] and answer.json()["passed_over"] == ["archive/README.txt"]
    assert [name.removesuffix(".json") for name in site_store.children(PENDING)] == [payload_id]
    assert len(list(site_store.list(f"payloads/{payload_id}/dcm"))) == 3
    assert client.get(f"{PAYLOADS}/{payload_id}").status_code in (403, 404)  # it is still open


def test_what_cannot_arrive_is_refused_and_leaves_nothing(
    api: Api, listened: None, archive: tuple[bytes, str], site_store: LocalStore
) -> None:
    client, headers = api("user"), {"content-type": "application/zip"}
    assert client.post(f"{PAYLOADS}?ae_title=NOBODY", content=archive[0], headers=headers).status_code == 404
    assert client.post(PAYLOADS, content=archive[0], headers=headers).status_code == 400
    kind = {"content-type": "text/plain"}
    assert client.post(f"{PAYLOADS}?ae_title=LOOK", content=b"x", headers=kind).status_code == 415
    assert client.post(f"{PAYLOADS}?ae_title=LOOK", content=b"PK", headers=headers).status_code == 400
    viewer = api("viewer").post(f"{PAYLOADS}?ae_title=LOOK", content=archive[0], headers=headers)
    assert viewer.status_code == 403
    assert api(None).get(f"{PAYLOADS}/{payload_id_of(archive[1], 'LOOK', 0)}").status_code == 401
    assert list(site_store.list("payloads")) == []
