"""Datasets and studies of a site whose store is a bucket."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from airflow_monai.store.payloads import load_payload
from tests.api.app_server.conftest import study_files, zipped
from tests.api.app_server.test_studies import store as stow
from tests.api.app_server.test_studies import workflow
from tests.s3_server import S3Server, s3  # noqa: F401 - a fixture


def test_uploads_go_to_a_bucket_and_come_back(
    api: Callable[..., TestClient],
    s3: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = s3.store(tmp_path)
    spool = tmp_path / "spool-of-uploads"
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", bucket.url)
    monkeypatch.setenv("AIRFLOW__MONAI__STORE_CONN_ID", "monai_store")
    monkeypatch.setenv("AIRFLOW__MONAI__SPOOL_FOLDER", str(spool))
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_STORE", s3.connection)
    client, files = api("op"), study_files(3)

    made = client.post(
        "/app-server/datasets", content=zipped(files), headers={"content-type": "application/zip"}
    ).json()

    assert len(load_payload(bucket, made["id"]).files) == 3
    content = client.get(f"/app-server/datasets/{made['id']}/content").content
    assert len(zipfile.ZipFile(io.BytesIO(content)).namelist()) == 3
    workflow(tmp_path / "workflows")
    arrived = stow(client, files, ae_title="CTLUNG", complete=True)
    assert arrived.status_code == 200
    assert list(bucket.children("pending")) == [arrived.headers["monai-payloads"]]
    assert client.delete(f"/app-server/datasets/{made['id']}").status_code == 204
    assert not [key for key in bucket.list(f"payloads/{made['id']}") if key.endswith(".dcm")]
    left = {path.name.partition("-")[0] for path in spool.rglob("*") if path.is_file()}
    assert left <= {"lock", "checked"}  # that the bucket does what it must was noted
