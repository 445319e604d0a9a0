"""Payloads over HTTP: listed, read by those who may, fetched, and deleted."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_monai.api.workflow_manager import payloads as payloads_module
from airflow_monai.gateway.removal import Remover
from airflow_monai.intake.events import EventLog
from airflow_monai.jobs.requests import JobRequests, WantedJob, now_text
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import Run as MipRun
from airflow_monai.mip.model import RunId
from airflow_monai.store.base import Store
from airflow_monai.store.deletion import DeletionState, delete_payload, deletion_of, doomed
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import instance_id_of, payload_key
from airflow_monai.types import Payload
from tests.api.airflow_rows import run
from tests.api.workflow_manager.scene import (
    ACCESSION,
    BASE,
    NAME,
    PATIENT,
    events,
    only,
    receive,
    statements,
    work_on,
    write_workflow,
)

Api = Callable[[str | None], TestClient]
PATH = f"{BASE}/payload"
NOTHING = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def dag_id(api: Api, site_store: LocalStore, tmp_path: Path) -> str:
    return write_workflow(tmp_path / "workflows", "look")


def test_a_payload_as_it_came_and_what_ran_on_it(api: Api, dag_id: str, site_store: LocalStore) -> None:
    payload = receive(site_store)
    run_id = work_on(site_store, dag_id, payload)
    found = api("viewer").get(f"{PATH}/{payload}").json()
    assert (found["payload_id"], found["file_count"], found["accession_id"]) == (payload, 2, ACCESSION)
    assert found["workflow_instance_ids"] == [instance_id_of(dag_id, run_id)]
    assert found["triggered_workflow_names"] == ["look"] and len(found["workflows"]) == 1
    assert (found["payload_status"], found["payload_deleted"], found["deletion"]) == ("Complete", "No", None)
    assert found["patient_details"]["patient_name"] == NAME and found["patient_details"]["patient_id"] == PATIENT
    assert found["DataTrigger"]["source"] == "CT01" and found["DataTrigger"]["destination"] == "LOOK"
    assert len(found["files"]) == 2 and found["files"][0]["path"].startswith(f"payloads/{payload}/dcm/1.2.3/")
    (noted,) = events()
    assert noted[0] == "monai.payload.read" and payload in str(noted[2]) and NAME not in str(noted)
    assert api("viewer").get(f"{BASE}/payloads/{payload.upper()}").json() == found
    for path, status in ((f"{PATH}/{NOTHING}", 404), (f"{PATH}/x", 400), (f"{PATH}/..%2f{payload}", 404)):
        assert api("viewer").get(path).status_code == status
    assert api(None).get(f"{PATH}/{payload}").status_code == 401


def test_lists_show_the_newest_first_and_find_patients(
    api: Api, dag_id: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [receive(site_store, f"1.2.{number}", 1, PatientID=f"P.{number}") for number in range(4)]
    still = receive(site_store, "1.9", 1, done=False)
    work_on(site_store, dag_id, ids[1], "running")
    client = api("viewer")

    def listed(**query: Any) -> list[str]:
        answer = client.get(PATH, params=query)
        assert answer.status_code == 200, answer.text
        return [one["payload_id"] for one in answer.json()["Data"]]

    assert listed() == [still, *reversed(ids)]
    assert listed(pageNumber=2, pageSize=2) == [ids[2], ids[1]] and listed(pageNumber=9) == []
    assert listed(patientId="p.2") == [ids[2]] and listed(patientId=".") == [*reversed(ids)]
    assert listed(patientId="P.*") == [], "a pattern is a text"
    assert len(listed(patientName="doe^j")) == 4 and listed(patientName="roe") == []
    assert len(listed(accessionId="acc")) == 4 and listed(accessionId="acc", patientId="3") == [ids[3]]
    page = client.get(PATH, params={"pageSize": 2}).json()
    assert (page["TotalRecords"], page["NextPage"]) == (5, f"{PATH}?pageNumber=2&pageSize=2")
    states = {one["payload_id"]: one["payload_status"] for one in client.get(PATH).json()["Data"]}
    assert states == {still: "InProgress", **dict.fromkeys(ids, "Complete"), ids[1]: "InProgress"}
    assert client.get(BASE + "/payloads").json()["Data"] == client.get(PATH).json()["Data"]
    with statements() as said:
        client.get(PATH, params={"pageSize": 100})
    assert len(said) <= 8, said
    for bad in ({"patientId": "x" * 65}, {"pageSize": "x"}):
        assert client.get(PATH, params=bad).status_code == 400
    assert api(None).get(PATH).status_code == 401
    with only(monkeypatch, dag_id):
        assert listed() == [ids[1]] and listed(patientId="P.") == [ids[1]]
        assert client.get(f"{PATH}/{ids[0]}").status_code == 404
    with only(monkeypatch, dag_id, data=False):
        answer = client.get(PATH)
        assert NAME not in answer.text and answer.json()["Data"][0]["patient_details"] is None
        assert client.get(PATH, params={"patientId": "P"}).status_code == 403
        assert client.get(f"{PATH}/{ids[1]}").json()["files"] is None
        assert client.get(f"{PATH}/{ids[1]}/download").status_code == 403


def test_many_runs_on_one_payload_hide_none_of_another(
    api: Api, dag_id: str, site_store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each the running ones are told, then the latest; who may see only one workflow loses nothing by others."""
    monkeypatch.setattr("airflow_monai.api.workflow_manager.payloads.MOST_LISTED", 2)
    other = write_workflow(tmp_path / "workflows", "other")
    often, seldom = receive(site_store, "1.2.1", 1), receive(site_store, "1.2.2", 1)
    for number in range(5):
        run(dag_id, f"often-{number}", "success" if number else "running", partition_key=often)
    run(other, "once", partition_key=often)
    run(dag_id, "seldom", partition_key=seldom)

    def listed(client: TestClient) -> dict[str, Any]:
        return {one["id"]: one for one in client.get(PATH).json()["Data"]}

    found = listed(api("viewer"))
    assert found[seldom]["workflow_instance_ids"] == [instance_id_of(dag_id, "seldom")]
    told = [instance_id_of(dag_id, "often-0"), instance_id_of(dag_id, "often-4"), instance_id_of(other, "once")]
    assert found[often]["workflow_instance_ids"] == told
    assert found[often]["payload_status"] == "InProgress"
    assert len(api("viewer").get(f"{PATH}/{often}").json()["workflow_instance_ids"]) == 6
    with only(monkeypatch, other):
        assert listed(api("viewer"))[often]["patient_details"] is not None


def test_its_images_are_fetched_as_an_archive(api: Api, dag_id: str, site_store: LocalStore) -> None:
    payload = receive(site_store)
    answer = api("viewer").get(f"{PATH}/{payload}/download")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == 2 and names[0].startswith("dcm/1.2.3/")
        assert archive.read(names[0]) == site_store.read(payload_key(payload, names[0]))
    assert events()[-1][0] == "monai.payload.download"
    assert api(None).get(f"{PATH}/{payload}/download").status_code == 401
    assert api("viewer").get(f"{PATH}/{NOTHING}/download").status_code == 404
    still = receive(site_store, "1.9", 1, done=False)
    assert api("viewer").get(f"{PATH}/{still}/download").status_code == 404


def test_deleting_is_asked_for_and_done_by_a_gateway(
    api: Api, dag_id: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = receive(site_store)
    run_id = work_on(site_store, dag_id, payload)
    client, path = api("op"), f"{PATH}/{payload}"
    assert client.get(PATH).json()["Data"][0]["patient_details"]["patient_name"] == NAME
    assert api("viewer").delete(path).status_code == 403 and api(None).delete(path).status_code == 401
    assert client.delete(path, params={"reason": "x" * 201}).status_code == 400
    answer = client.delete(path, params={"reason": "sent by mistake"})
    assert (answer.status_code, answer.json()) == (202, True)
    assert client.delete(path).status_code == 400
    found = client.get(path).json()
    assert (found["payload_deleted"], found["deletion"]["by"]) == ("InProgress", "op")
    working = True
    remover = Remover(site_store, EventLog(None), lambda payload_id: working)
    assert not remover.remove(payload) and site_store.exists(payload_key(payload, "payload.json"))
    working = False
    assert remover.remove(payload)
    found = client.get(path).json()
    assert (found["payload_deleted"], found["deletion"]["reason"]) == ("Yes", "sent by mistake")
    assert found["workflow_instance_ids"] == [instance_id_of(dag_id, run_id)] and found["file_count"] == 2
    (listed,) = client.get(PATH).json()["Data"]
    for one in (found, listed):
        assert one["patient_details"] is None and NAME not in str(one)
    assert client.get(PATH, params={"patientName": "doe"}).json()["Data"] == []
    assert client.get(f"{path}/download").status_code == 404
    assert client.delete(path).status_code == 400
    (instance,) = client.get(f"{BASE}/workflowinstances").json()["Data"]
    work = next(task for task in instance["tasks"] if task["task_id"] == "work")
    assert work["status"] == "Succeeded" and work["result"] == {}
    assert [event for event, _, _ in events() if event.endswith("delete")] == ["monai.payload.delete"]


def test_one_that_is_deleted_while_it_is_told_of_is_told_as_deleted(
    api: Api, dag_id: str, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = receive(site_store)
    client, path = api("op"), f"{PATH}/{payload}"
    assert client.delete(path).status_code == 202
    read = payloads_module.load_payload

    def late(store: Store, payload_id: str) -> Payload:
        monkeypatch.setattr(payloads_module, "load_payload", read)
        delete_payload(site_store, payload_id)
        return read(store, payload_id)

    monkeypatch.setattr(payloads_module, "load_payload", late)
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["payload_deleted"], answer.json()["files"]) == ("Yes", None)
    assert answer.json()["patient_details"] is None and NAME not in answer.text


def test_what_is_worked_on_is_not_deleted(api: Api, dag_id: str, site_store: LocalStore) -> None:
    payload, still = receive(site_store), receive(site_store, "1.9", 1, done=False)
    work_on(site_store, dag_id, payload, "queued")
    by_conf = receive(site_store, "1.8", 1)
    run(dag_id, "by-conf", "running", conf={"payload_id": by_conf})
    for one in (payload, by_conf, still):
        answer = api("op").delete(f"{PATH}/{one}")
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert api("op").delete(f"{PATH}/{NOTHING}").status_code == 404
    assert not doomed(site_store) and not [event for event, _, _ in events() if "delete" in event]


def test_what_a_job_or_a_run_of_the_job_server_waits_for_is_not_deleted(
    api: Api, dag_id: str, site_store: LocalStore
) -> None:
    """Airflow has no run of theirs yet, as that of a job server's run whose turn comes later."""
    of_job, of_run, free = (receive(site_store, f"1.{number}", 1) for number in (1, 2, 3))
    job = WantedJob(dag_id, "r", of_job, "lung:1", 1, "", "routine", "anna", now_text())
    JobRequests(site_store).place("request", "asked", lambda: [job])
    Ledger(site_store).submit(
        MipRun(RunId("alpha", 1), dag_id, ("work",), "PEACH", of_run, False, now_text(), "anna"), None
    )
    for one in (of_job, of_run):
        answer = api("op").delete(f"{PATH}/{one}")
        assert answer.status_code == 400 and "wait" in answer.json()["detail"]
    assert api("op").delete(f"{PATH}/{free}").status_code == 202
    assert list(doomed(site_store)) == [free]


def test_of_two_servers_that_delete_it_at_once_one_does(api: Api, dag_id: str, site_store: LocalStore) -> None:
    payload = receive(site_store)
    clients = [api("op"), api("admin")] * 2
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda client=client: answers.append(client.delete(f"{PATH}/{payload}").status_code))
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [202, 400, 400, 400]
    delete_payload(site_store, payload)
    assert deletion_of(site_store, payload).state is DeletionState.YES


def test_why_it_is_not_gone_yet_names_no_folder(api: Api, dag_id: str, site_store: LocalStore) -> None:
    payload = receive(site_store)
    api("op").delete(f"{PATH}/{payload}")

    def refuse(payload_id: str) -> bool:
        from airflow_monai.errors import StoreError

        raise StoreError(f"cannot look at {site_store.root}")

    assert not Remover(site_store, EventLog(None), refuse).remove(payload)
    found = api("op").get(f"{PATH}/{payload}").json()
    assert found["payload_deleted"] == "Failed" and str(site_store.root) not in str(found)
    assert Remover(site_store, EventLog(None), lambda payload_id: False).remove(payload)
