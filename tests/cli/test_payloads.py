"""``airflow monai payloads``: what was received and what became of it."""

from __future__ import annotations

import io
import json

import pytest

from airflow_monai.cli.payloads import run_list, run_show
from airflow_monai.errors import PayloadNotFound
from airflow_monai.gateway.announcer import Announcer
from airflow_monai.gateway.events import EventLog
from airflow_monai.gateway.workflows import Known
from airflow_monai.specs.plan import TaskPlan, TaskType, WorkflowPlan
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, not_started_key, payload_id_of, payload_key, run_id_of
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
    _announcer(store).route(payload)
    opened = {"study_instance_uid": STUDY, "called_aet": "CTLUNG", "sequence": 1, "opened": payload.closed}
    store.write_json(payload_key(OPEN, "open.json"), opened)
    store.write_json(payload_key(OPEN, "calling", "CT01"), {})
    return store


class _Api:
    """Stands in for Airflow, which makes every run at once."""

    def create_run(self, dag_id: str, run_id: str, partition_key: str) -> bool:
        return True


def _announcer(store: LocalStore) -> Announcer:
    task = TaskPlan("route", TaskType.ROUTER)
    workflows = (
        WorkflowPlan("ct lung", "ct-lung", "1", "0", "ct.yaml", "CTLUNG", (task,)),
        WorkflowPlan("mr", "mr", "1", "0", "mr.yaml", "MR", (task,)),
    )
    return Announcer(store, _Api(), lambda: Known(workflows), EventLog())


def _ran(store: LocalStore) -> None:
    run_id = run_id_of(CLOSED)
    _announcer(store).announce(CLOSED)
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
    assert "ct lung: wanted: sent to AE title 'CTLUNG'" in text
    assert "mr: not wanted: it listens to AE title 'MR'" in text
    assert text.index("segment  Succeeded") < text.index("to-pacs  Failed")
    assert "PACS refused 1" in text
    for printed in (text, _printed(run_show, store, CLOSED, True), _printed(run_list, store, 9, True)):
        assert "Doe" not in printed and "MRN-777" not in printed and STUDY not in printed.replace(CLOSED, "")


def test_a_run_that_is_not_there_yet_is_said(store):
    assert "ct lung: wanted (run not created yet)" in _printed(run_show, store, CLOSED, False)
    assert "Routing: not decided yet" in _printed(run_show, store, OPEN, False)


def test_a_run_that_will_not_be_is_said_with_the_reason(store):
    store.write_json(not_started_key(CLOSED, "ct-lung"), {"dag_id": "ct-lung", "reason": "it is gone", "time": 1.0})
    assert "ct-lung (not started)" in _printed(run_list, store, 50, False)
    shown = _printed(run_show, store, CLOSED, False)
    assert "not started, and tried no more: it is gone" in shown and "not created yet" not in shown
    assert json.loads(_printed(run_show, store, CLOSED, True))["not_started"] == {"ct-lung": "it is gone"}
    _ran(store)
    assert "not started, and" in _printed(run_show, store, CLOSED, False), "it is given up"


def test_an_empty_store_and_an_unknown_id(tmp_path):
    assert "holds no payload yet" in _printed(run_list, LocalStore(tmp_path / "new"), 5, False)
    with pytest.raises(PayloadNotFound):
        run_show(LocalStore(tmp_path), CLOSED, False, io.StringIO())
