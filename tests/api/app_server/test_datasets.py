"""Datasets as a client uploads, lists, reads and deletes them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_monai.datasets.catalogue import Datasets
from airflow_monai.store.history import summarise
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import load_payload, load_series_tags, run_key
from tests.api.airflow_rows import parse, run
from tests.api.app_server.conftest import dicom, left_in, study_files, zipped

Api = Callable[..., TestClient]
URL = "/app-server/datasets"
ZIP = {"content-type": "application/zip"}
DICOM = {"content-type": "application/dicom"}
OCTETS = {"content-type": "application/octet-stream"}


def form(files: dict[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (name, data, "application/dicom")) for name, data in files.items()]


def entries(event: str) -> list[str]:
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        return list(session.scalars(select(Log.extra).where(Log.event == event)))


def test_a_form_of_images_becomes_a_dataset_that_any_workflow_can_run_on(api: Api, site_store: LocalStore) -> None:
    files = study_files(3)

    answer = api("user").post(URL, files=form(files), data={"name": "phantom"})

    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert answer.headers["location"].endswith(f"/app-server/datasets/{told['id']}")
    assert (told["name"], told["state"], told["files"], told["series"]) == ("phantom", "ready", 3, 1)
    assert told["created_by"] == "user" and told["created_now"] and not told["refused"]
    payload = load_payload(site_store, told["id"])
    assert payload.patient.id == "SECRET-ID" and len(payload.files) == 3
    assert load_series_tags(site_store, told["id"])
    assert summarise(site_store, told["id"]).standing == "dataset"  # nobody waits for a workflow to take it
    assert [name for name in left_in(site_store) if name.startswith("incoming")] == []
    assert list(site_store.children("pending")) == []
    assert "SECRET" not in "".join(entries("monai.dataset.upload"))


@pytest.mark.parametrize("way", ["raw", "octets", "zip", "zip in a form", "zip as octets"])
def test_the_ways_to_upload(api: Api, way: str) -> None:
    files = study_files(2)
    only = dict(list(files.items())[:1])
    client = api("user")
    answer = {
        "raw": lambda: client.post(URL, content=files["1.dcm"], headers=DICOM),
        "octets": lambda: client.post(URL, content=files["1.dcm"], headers=OCTETS),
        "zip": lambda: client.post(URL, content=zipped(only), headers=ZIP),
        "zip in a form": lambda: client.post(URL, files={"file": ("a.zip", zipped(only), "application/zip")}),
        "zip as octets": lambda: client.post(URL, content=zipped(only), headers=OCTETS),
    }[way]()
    assert answer.status_code == 201, answer.text
    assert answer.json()["files"] == 1


def test_the_same_files_are_one_dataset_however_they_come(api: Api, site_store: LocalStore) -> None:
    files = study_files(2)
    client = api("user")
    first = client.post(URL, files=form(files), params={"name": "first"})
    before = left_in(site_store)

    again = client.post(URL, content=zipped({f"x/{n}": data for n, data in files.items()}), headers=ZIP)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["name"] == "first" and not again.json()["created_now"]
    assert left_in(site_store) == before
    assert client.get(URL).json()["total"] == 1


def test_a_key_stands_for_what_was_made_under_it(api: Api) -> None:
    client, key = api("user"), {"Idempotency-Key": "k1"}
    data = dicom()
    first = client.post(URL, content=data, headers={**DICOM, **key})
    again = client.post(URL, content=data, headers={**DICOM, **key})
    other = client.post(URL, content=data + b"\0" * 8, headers={**DICOM, **key})
    anothers = api("admin").post(URL, content=dicom(), headers={**DICOM, **key})

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json()["id"] == first.json()["id"]
    assert anothers.status_code == 201 and anothers.json()["id"] != first.json()["id"]


def test_whose_key_it_is_stays_clear_whatever_names_and_keys_there_are(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_monai.api.common.access import Caller

    client, made = api("user"), []
    for name, key in (("a", "b|c"), ("a|b", "c")):
        monkeypatch.setattr(Caller, "name", property(lambda _, name=name: name))
        made.append(client.post(URL, content=dicom(), headers={**DICOM, "Idempotency-Key": key}))
    assert [answer.status_code for answer in made] == [201, 201]


def test_one_bad_file_refuses_all_unless_the_good_ones_are_asked_for(api: Api, site_store: LocalStore) -> None:
    files = {**study_files(2), "3.dcm": b"no DICOM at all", "4.dcm": dicom()[:1200]}
    client = api("user")

    whole = client.post(URL, files=form(files))
    assert whole.status_code == 400 and whole.headers["content-type"] == "application/problem+json"
    assert {item["field"]: item["message"] for item in whole.json()["errors"]}.keys() == {"3.dcm", "4.dcm"}
    assert "does not begin as a DICOM file" in whole.text and "breaks off" in whole.text
    assert left_in(site_store) == []

    partial = client.post(URL, files=form(files), params={"partial": True})
    assert partial.status_code == 201 and partial.json()["files"] == 2
    assert {item["name"] for item in partial.json()["refused"]} == {"3.dcm", "4.dcm"}


def test_two_images_of_one_uid_are_refused(api: Api, site_store: LocalStore) -> None:
    study = "2.25.1"
    files = {"a.dcm": dicom(study, "2.25.2", 1), "b.dcm": dicom(study, "2.25.2", 1)}
    answer = api("user").post(URL, files=form(files))
    assert answer.status_code == 400 and "SOP Instance UID" in answer.text
    same = api("user").post(URL, files=form({"a.dcm": files["a.dcm"], "again.dcm": files["a.dcm"]}))
    assert same.status_code == 201 and same.json()["files"] == 1


def test_what_is_no_image_in_an_archive_is_passed_over_and_told(api: Api) -> None:
    files = {**study_files(1), "README.txt": b"hello", "autorun.inf": b"[autorun]"}
    answer = api("user").post(URL, content=zipped(files), headers=ZIP)
    assert answer.status_code == 201 and answer.json()["files"] == 1
    assert sorted(answer.json()["passed_over"]) == ["archive/README.txt", "archive/autorun.inf"]


def test_datasets_are_listed_newest_first_a_page_at_a_time(api: Api) -> None:
    client = api("user")
    ids = [client.post(URL, content=dicom(), headers=DICOM).json()["id"] for _ in range(3)]
    assert [item["id"] for item in client.get(URL).json()["datasets"]] == ids[::-1]
    page = client.get(URL, params={"offset": 1, "limit": 1}).json()
    assert [item["id"] for item in page["datasets"]] == [ids[1]] and page["total"] == 3
    assert client.get(URL, params={"limit": 0}).status_code == 400


def test_a_dataset_is_described_and_its_patient_only_where_that_is_asked_and_noted(api: Api) -> None:
    client = api("user")
    made = client.post(URL, files=form(study_files(2))).json()
    plain = client.get(f"{URL}/{made['id']}")
    assert plain.json()["patient"] is None and "SECRET" not in plain.text
    assert plain.json()["studies"] == made["studies"]
    told = client.get(f"{URL}/{made['id']}", params={"patient": True}).json()
    assert told["patient"]["name"] == "SECRET^NAME"
    assert made["id"] in entries("monai.dataset.patient")[0]


def test_files_are_listed_and_downloaded(api: Api) -> None:
    files = study_files(2)
    client = api("user")
    made = client.post(URL, files=form(files)).json()

    listed = client.get(f"{URL}/{made['id']}/files").json()
    assert listed["total"] == 2
    sop = listed["files"][0]["sop_instance_uid"]
    one = client.get(f"{URL}/{made['id']}/files/{sop}")
    assert one.status_code == 200 and one.headers["content-type"] == "application/dicom"
    import pydicom

    assert pydicom.dcmread(io.BytesIO(one.content)).SOPInstanceUID == sop
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{URL}/{made['id']}/content").content))
    assert len(archive.namelist()) == 2 and archive.testzip() is None
    assert client.get(f"{URL}/{made['id']}/files/1.2.3").status_code == 404
    assert len(entries("monai.dataset.download")) == 2


def test_a_deleted_dataset_is_gone_and_its_id_with_it(api: Api, site_store: LocalStore) -> None:
    client, data = api("op"), dicom()
    made = client.post(URL, content=data, headers=DICOM).json()

    assert client.delete(f"{URL}/{made['id']}").status_code == 204
    assert client.get(f"{URL}/{made['id']}").status_code == 404
    assert client.delete(f"{URL}/{made['id']}").status_code == 404
    assert client.get(URL).json()["total"] == 0
    assert not [key for key in left_in(site_store) if key.endswith(".dcm")]

    again = client.post(URL, content=data, headers=DICOM)  # runs on the first one are no runs on this one
    assert again.status_code == 201 and again.json()["id"] != made["id"]


@pytest.mark.parametrize("named_in", ["key", "conf"])
def test_a_dataset_that_is_worked_on_or_has_results_stays(api: Api, site_store: LocalStore, named_in: str) -> None:
    client = api("op")
    made = client.post(URL, content=dicom(), headers=DICOM).json()
    dag = parse("name: d\nversion: 1.0.0\ninformatics_gateway: {ae_title: D}\ntasks: [{id: t, type: router}]\n")
    names: dict[str, Any] = {"partition_key": made["id"]} if named_in == "key" else {"conf": {"payload_id": made["id"]}}
    run(dag, f"monai__{made['id']}", "running", **names)

    busy = client.delete(f"{URL}/{made['id']}")
    assert busy.status_code == 409 and "at work" in busy.json()["detail"]

    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState

    with create_session() as session:
        for found in session.scalars(select(DagRun)):
            found.state = DagRunState.SUCCESS
    site_store.write(f"{run_key(made['id'], dag, 'x')}/t/task.json", b"{}")
    site_store.write(f"{run_key(made['id'], dag, 'x')}/t/0/task.json", b"{}")
    assert not Datasets(site_store).has_results(made["id"])  # records alone are none
    site_store.write(f"{run_key(made['id'], dag, 'x')}/t/out/result.txt", b"42")
    kept = client.delete(f"{URL}/{made['id']}")
    assert kept.status_code == 409 and "with_results" in kept.json()["detail"]
    assert client.delete(f"{URL}/{made['id']}", params={"with_results": True}).status_code == 204


def test_a_received_study_is_described_as_a_dataset_and_not_deleted_as_one(api: Api, site_store: LocalStore) -> None:
    from airflow_monai.store.intake import Instance, Intake
    from airflow_monai.store.spooling import FileSource, Spooled, Spooler

    spooled = Spooler(site_store.spool()).read(FileSource(io.BytesIO(dicom())), "a.dcm")
    assert isinstance(spooled, Spooled)
    intake = Intake(site_store)
    placed = intake.add(Instance(spooled.found.identity, "CTLUNG", "CT01"), spooled.path)
    intake.close(placed.payload_id)
    client = api("op")
    told = client.get(f"{URL}/{placed.payload_id}").json()
    assert (told["source"], told["files"]) == ("received", 1)
    assert client.delete(f"{URL}/{placed.payload_id}").status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("POST", "", "user"),
        ("GET", "", "viewer"),
        ("GET", "/{id}", "viewer"),
        ("GET", "/{id}/files", "viewer"),
        ("GET", "/{id}/content", "viewer"),
        ("DELETE", "/{id}", "user"),
    ],
)
def test_every_route_asks_who_calls(api: Api, method: str, path: str, least: str) -> None:
    made = api("admin").post(URL, content=dicom(), headers=DICOM).json()
    where = URL + path.format(id=made["id"])
    assert api(None).request(method, where, headers=DICOM).status_code == 401
    if least != "viewer":
        assert api("viewer").request(method, where, content=dicom(), headers=DICOM).status_code == 403
    assert api(least).request(method, where, content=dicom(), headers=DICOM).status_code in (200, 201, 204)


def test_what_is_not_there_is_404_and_what_is_no_dicom_is_415(api: Api, site_store: LocalStore) -> None:
    client = api("admin")
    for path in ("/nothing", "/0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11", "/..%2f..%2fetc"):
        assert client.get(URL + path).status_code == 404
        assert client.get(f"{URL}{path}/content").status_code == 404
    for kind in ("application/json", "text/plain", "image/png", ""):
        answer = client.post(URL, content=b"x", headers={"content-type": kind})
        assert answer.status_code == 415 and "application/zip" in answer.json()["detail"]
    assert Datasets(site_store).page(0, 10).total == 0
