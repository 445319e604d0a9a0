"""``airflow monai payloads``: what was received and what became of it."""

from __future__ import annotations

import io
import json

import pytest

from airflow_monai.cli.payloads import run_list, run_show
from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, payload_id_of, payload_key, run_id_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import PatientDetails, Payload, PayloadFile, TaskRecord, TaskStatus

STUDY = "1.2.3"
CLOSED = payload_id_of(STUDY, "CTLUNG", 0)
OPEN = payload_id_of(STUDY, "CTLUNG", 1)


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(tmp_path)
    file = PayloadFile(
        "dcm/1.2.3/1.2.3.4/1.2.3.4.5.dcm", 10, "1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.840"
    )
    times = {"received_first": "2026-01-02T03:04:05+00:00", "received_last": "2026-01-02T03:04:06+00:00"}
    payload = Payload(
        CLOSED, STUDY, "CTLUNG", ("CT01",), 0, (file,), closed="2026-01-02T03:04:16+00:00",
        patient=PatientDetails(id="MRN-777", name="Doe^Jane"), **times,
    )  # fmt: skip
    store.write_json(manifest_key(CLOSED), payload.to_dict())
    store.write_json(
        payload_key(CLOSED, "routing.json"),
        {
            "decisions": [
                {"workflow_name": "ct lung", "dag_id": "ct-lung", "wanted": True, "reason": "sent to CTLUNG"},
                {"workflow_name": "mr", "dag_id": "mr", "wanted": False, "reason": "it takes studies sent to MR"},
            ]
        },
    )
    store.write_json(payload_key(OPEN, "open.json"), {"called_aet": "CTLUNG"})
    store.write_json(payload_key(OPEN, "calling", "CT01"), {})
    return store


def _ran(store: LocalStore) -> None:
    run_id = run_id_of(CLOSED)
    store.write_json(payload_key(CLOSED, "runs", "ct-lung.json"), {"run_id": run_id})
    folder = RunFolder(store, CLOSED, "ct-lung", run_id)
    folder.write_record(
        TaskRecord("to-pacs", "export", TaskStatus.FAILED, "y", start_time="2", error_msg="PACS refused 1")
    )
    folder.write_record(TaskRecord("segment", "map", TaskStatus.SUCCEEDED, "x", start_time="1", result={"name": "Doe"}))


def _printed(function, *args) -> str:
    out = io.StringIO()
    assert function(*args, out) == 0
    return out.getvalue()


def test_the_list_shows_open_payloads_first_and_what_waits(store):
    head, first, second = _printed(run_list, store, 50, False).splitlines()
    assert head.split() == ["PAYLOAD", "STATE", "AE", "TITLE", "FROM", "IMAGES", "CLOSED", "WORKFLOWS"]
    assert first.split() == [OPEN, "open", "CTLUNG", "CT01", "0", "-", "-"]
    assert second.split() == [CLOSED, "closed", "CTLUNG", "CT01", "1", "2026-01-02T03:04:16", "ct-lung", "(waiting)"]


def test_the_list_is_limited_and_json_is_for_programs(store):
    _ran(store)
    (only,) = json.loads(_printed(run_list, store, 1, True))
    assert only["payload_id"] == OPEN
    closed = json.loads(_printed(run_list, store, 9, True))[1]
    assert (closed["wanted"], closed["announced"]) == (["ct-lung"], ["ct-lung"])


def test_a_payload_s_story_is_told_in_order_and_without_the_patient(store):
    _ran(store)
    text = _printed(run_show, store, CLOSED, False)
    assert "ct lung: wanted: sent to CTLUNG" in text
    assert "mr: not wanted: it takes studies sent to MR" in text
    assert text.index("segment  Succeeded") < text.index("to-pacs  Failed")
    assert "PACS refused 1" in text
    for printed in (text, _printed(run_show, store, CLOSED, True), _printed(run_list, store, 9, True)):
        assert "Doe" not in printed and "MRN-777" not in printed and STUDY not in printed.replace(CLOSED, "")


def test_a_run_that_is_not_there_yet_is_said(store):
    assert "ct lung: wanted (run not created yet)" in _printed(run_show, store, CLOSED, False)
    assert "Routing: not decided yet" in _printed(run_show, store, OPEN, False)


def test_an_empty_store_and_an_unknown_id(tmp_path):
    assert "holds no payload yet" in _printed(run_list, LocalStore(tmp_path / "new"), 5, False)
    with pytest.raises(PayloadNotFound):
        run_show(LocalStore(tmp_path), CLOSED, False, io.StringIO())
