"""Datasets and studies that come by HTTP through Airflow's own API server, its middleware and its log-in."""

from __future__ import annotations

import io
import socket
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import load_payload
from tests.e2e.helpers import add_workflows, make_study, send, store_of, wait_for_runs, workflow
from tests.e2e.test_api import token

DAG, AET = "uploads", "UPLOADS"


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> requests.Session:
    add_workflows(stack, workflow(DAG, AET, {"id": "look", "type": "router"}))
    session = requests.Session()
    session.headers["authorization"] = f"Bearer {token(stack)}"
    return session


def related(files: list[Path]) -> tuple[bytes, dict[str, str]]:
    parts = b"".join(b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n" for file in files)
    return parts + b"--XX--\r\n", {"content-type": 'multipart/related; type="application/dicom"; boundary=XX'}


def test_a_zip_becomes_a_dataset_that_a_workflow_runs_on(
    stack: LocalStack, client: requests.Session, tmp_path: Path
) -> None:
    study, packed = make_study(tmp_path, AET), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in study.files:
            archive.write(file, f"study/{file.name}")
    url = f"{stack.ui}/monai/app-server/datasets"

    kind = {"content-type": "application/zip"}
    answer = client.post(url, params={"name": "phantom"}, data=packed.getvalue(), headers=kind)

    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["files"], made["studies"], made["name"]) == (len(study.files), [study.uid], "phantom")
    assert client.get(urlsplit(stack.ui)._replace(path=answer.headers["location"]).geturl()).json()["id"] == made["id"]
    run_id = f"monai__{made['id']}"
    body = {"dag_run_id": run_id, "partition_key": made["id"], "logical_date": None, "conf": {}}
    stack.api.call("POST", f"/dags/{DAG}/dagRuns", body)
    assert stack.wait_for_run(DAG, run_id)["state"] == "success"
    whole = client.get(f"{url}/{made['id']}/content")
    assert {Path(name).stem for name in zipfile.ZipFile(io.BytesIO(whole.content)).namelist()} == set(study.sop_uids)


def test_stow_to_an_ae_title_is_as_c_store(stack: LocalStack, client: requests.Session, tmp_path: Path) -> None:
    study = make_study(tmp_path, AET)
    body, headers = related(list(study.files))
    url = f"{stack.ui}/monai/app-server/studies"

    answer = client.post(url, params={"ae_title": AET, "complete": True}, data=body, headers=headers)

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["00081199"]["Value"]) == len(study.files)
    assert stack.wait_for_run(DAG, study.run_id)["state"] == "success"  # the gateway has seen it through
    received = load_payload(store_of(stack), study.payload_id).files
    assert {file.sop_instance_uid for file in received} == set(study.sop_uids)
    send(stack, study)  # by C-STORE, again

    def is_known() -> bool:
        told = [event for event in stack.events("duplicate-received") if event["payload_id"] == study.payload_id]
        return sum(event["count"] for event in told) >= len(study.files)

    stack.wait_for(is_known, seconds=60, what="the duplicates to be told")
    runs = wait_for_runs(stack, DAG, 1)
    assert [run_id for run_id in runs if study.payload_id in run_id] == [study.run_id]


def test_a_large_body_is_written_while_it_comes(stack: LocalStack, client: requests.Session, tmp_path: Path) -> None:
    """No middleware keeps it in memory: half of it is in the spool while the sender waits with the rest."""
    study = make_study(tmp_path, AET)
    image = study.files[0].read_bytes()
    data = image + bytes(32 << 20)  # zeros behind an image do no harm
    where = urlsplit(stack.ui)
    lines = (
        f"POST {where.path}/monai/app-server/datasets HTTP/1.1", f"Host: {where.netloc}",
        f"Content-Length: {len(data)}",
        f"Authorization: {client.headers['authorization']!s}", "Content-Type: application/dicom", "", "",
    )  # fmt: skip

    def spooled() -> Any:
        folder = stack.layout.store / "incoming"
        return any(path.stat().st_size > 8 << 20 for path in folder.glob("*/upload-*/*"))

    with socket.create_connection((where.hostname, where.port or 80), timeout=180) as sender:
        sender.sendall("\r\n".join(lines).encode() + data[: len(data) // 2])
        stack.wait_for(spooled, seconds=90, what="half of the upload in the spool", every=0.1)
        sender.sendall(data[len(data) // 2 :])
        assert sender.recv(65536).startswith(b"HTTP/1.1 201")
