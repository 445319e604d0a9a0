"""STOW-RS (PS3.18 section 10.5) as a PACS or a modality uses it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom.dataset import Dataset

from airflow_monai.store.intake import Intake
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import payload_id_of
from tests.api.app_server.conftest import dicom, left_in, new_uid, study_files

Api = Callable[..., TestClient]
URL = "/app-server/studies"
KIND = 'multipart/related; type="application/dicom"; boundary=XX'
CTLUNG = """
name: ct-lung
version: 1.0.0
informatics_gateway: {ae_title: CTLUNG}
tasks: [{id: t, type: router}]
"""


def related(files: Mapping[str, bytes], kind: str = "application/dicom") -> bytes:
    head = f"--XX\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + data + b"\r\n" for data in files.values()) + b"--XX--\r\n"


def store(client: TestClient, files: Mapping[str, bytes], path: str = "", **params: Any) -> Any:
    return client.post(URL + path, content=related(files), headers={"content-type": KIND}, params=params)


def told(answer: Any) -> Dataset:
    """The answer as pydicom reads the DICOM JSON model."""
    assert answer.headers["content-type"] == "application/dicom+json"
    return Dataset.from_json(answer.text)


def workflow(folder: Any) -> None:
    (folder / "ct.yaml").write_text(CTLUNG)


def test_each_study_becomes_a_dataset(api: Api, site_store: LocalStore) -> None:
    studies = [new_uid(), new_uid()]
    files = {f"{uid}/{name}": data for uid in studies for name, data in study_files(2, uid).items()}
    client = api("user")

    answer = store(client, files)

    assert answer.status_code == 200
    stored = told(answer).ReferencedSOPSequence
    assert len(stored) == 4 and "FailedSOPSequence" not in told(answer)
    ids = answer.headers["monai-datasets"].split(", ")
    found = [client.get(f"/app-server/datasets/{dataset_id}").json() for dataset_id in ids]
    assert sorted(item["studies"][0] for item in found) == sorted(studies)
    assert {(item["source"], item["files"]) for item in found} == {("stow", 2)}
    url = stored[0].RetrieveURL.removeprefix("/monai")
    assert client.get(url).headers["content-type"] == "application/dicom"
    before = left_in(site_store)
    assert store(client, files).headers["monai-datasets"] == answer.headers["monai-datasets"]
    assert left_in(site_store) == before


def test_what_cannot_be_stored_is_told_for_each_instance(api: Api, site_store: LocalStore) -> None:
    uid = new_uid()
    good, other, broken = dicom(uid), dicom(new_uid()), dicom(uid)[:1000]
    client = api("user")

    mixed = store(client, {"a": good, "b": other, "c": broken, "d": b"no image"}, f"/{uid}")
    answer = told(mixed)
    assert mixed.status_code == 202
    assert len(answer.ReferencedSOPSequence) == 1
    reasons = sorted(item.FailureReason for item in answer.FailedSOPSequence)
    assert reasons == [0xA900, 0xC000]
    assert all(item.ReferencedSOPClassUID for item in answer.FailedSOPSequence)
    assert [item.FailureReason for item in answer.OtherFailuresSequence] == [0xC000]

    nothing = store(client, {"b": other}, f"/{uid}")
    assert nothing.status_code == 409 and "ReferencedSOPSequence" not in told(nothing)
    assert client.get("/app-server/datasets").json()["total"] == 1


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({"content-type": 'multipart/related; type="application/dicom+json"; boundary=XX'}, b"", 415),
        ({"content-type": 'multipart/related; type="application/dicom"'}, b"", 400),
        ({"content-type": KIND}, b"--XX\r\n\r\nhalf", 400),
        ({"content-type": KIND, "accept": "application/dicom+xml"}, b"", 406),
    ],
)
def test_requests_that_are_none(api: Api, site_store: LocalStore, headers: Any, body: bytes, status: int) -> None:
    answer = api("user").post(URL, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert left_in(site_store) == []


def test_a_study_in_the_address_must_be_a_uid_and_rights_are_asked(api: Api) -> None:
    assert store(api("user"), study_files(1), "/no-uid").status_code == 400
    assert store(api(None), study_files(1)).status_code == 401
    assert store(api("viewer"), study_files(1)).status_code == 403
    assert api("user").post(URL, content=dicom(), headers={"content-type": "application/dicom"}).status_code == 200


def test_a_study_for_an_ae_title_is_the_payload_that_c_store_makes(
    api: Api, site_store: LocalStore, tmp_path: Any
) -> None:
    workflow(tmp_path / "workflows")
    uid = new_uid()
    files = study_files(3, uid)
    client = api("user")

    answer = store(client, files, ae_title="CTLUNG", origin="CT01")

    assert answer.status_code == 200, answer.text
    payload_id = payload_id_of(uid, "CTLUNG", 0)
    assert answer.headers["monai-payloads"] == payload_id
    intake = Intake(site_store)
    assert list(intake.pending()) == [payload_id]  # a gateway sees it through
    seen = intake.look(payload_id)
    assert seen is not None and (seen.images, seen.called_aet, seen.whole) == (3, "CTLUNG", False)
    again = store(client, files, ae_title="CTLUNG", origin="CT01", complete=True)
    assert again.status_code == 200
    seen = intake.look(payload_id)
    assert seen is not None and seen.images == 3 and seen.whole
    manifest = intake.close(payload_id)
    assert manifest.calling_aets == ("CT01",) and len(manifest.files) == 3
    changed = {"1.dcm": dicom(uid, f"{uid}.1", 1, PatientName="OTHER")}
    differs = store(client, changed, ae_title="CTLUNG")
    assert differs.status_code == 409 and told(differs).FailedSOPSequence[0].FailureReason == 0x0110
    assert not [key for key in left_in(site_store) if key.startswith("incoming")]


def test_a_study_is_not_closed_while_more_of_it_comes(
    api: Api, site_store: LocalStore, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways are told of images that take longer than a study must be quiet, as they tell one another."""
    from airflow_monai.api.common import arrivals

    monkeypatch.setattr(arrivals, "TELL_SECONDS", 0.0)
    workflow(tmp_path / "workflows")
    uid = new_uid()
    assert store(api("user"), study_files(12, uid), ae_title="CTLUNG").status_code == 200
    note = Intake(site_store).arriving_note(payload_id_of(uid, "CTLUNG", 0))
    assert note is not None and note[0]


def test_an_ae_title_that_nobody_listens_to_takes_nothing(api: Api, site_store: LocalStore) -> None:
    answer = store(api("user"), study_files(1), ae_title="NOBODY")
    assert answer.status_code == 404 and "listens" in answer.json()["detail"]
    assert left_in(site_store) == []


def test_our_own_stow_client_understands_it(api: Api) -> None:
    """What the stow sink makes of the answer."""
    import pydicom

    files = study_files(2)
    answer = store(api("user"), files)
    sops = {str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID) for data in files.values()}
    assert {item.ReferencedSOPInstanceUID for item in told(answer).ReferencedSOPSequence} == sops
