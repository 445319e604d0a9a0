"""A gate's trigger: what it makes of conditions, of a missing payload, and of a store that fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTaskEndEvent, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent

from airflow_monai.operators.gate import GateOperator
from airflow_monai.store import open_store
from airflow_monai.store.payloads import manifest_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.triggers.gate import GateTrigger
from airflow_monai.types import PatientDetails, Payload, TaskRecord, TaskStatus

PAYLOAD_ID = "0a1b2c3d-0000-4000-8000-000000000002"
SECRET = "Doe^Jane"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path))
    store = open_store(str(tmp_path))
    times = dict.fromkeys(("received_first", "received_last", "closed"), "2026-01-01T00:00:00+00:00")
    patient = PatientDetails(name=SECRET, sex="F")
    payload = Payload(PAYLOAD_ID, "1.2.3", "CTLUNG", ("CT01",), 0, (), **times, patient=patient)
    store.write_json(manifest_key(PAYLOAD_ID), payload.to_dict())
    return store


def ended(*conditions: str, payload_id: str = PAYLOAD_ID, behind: tuple[str, ...] = ()) -> Any:
    """The event with which a gate ends, after its trigger has been kept in the database and read back."""
    _, kwargs = GateTrigger(
        payload_id=payload_id, dag_id="ct", run_id="run", conditions=conditions, behind=behind, workflow_name="ct"
    ).serialize()
    return asyncio.run(_first_event(GateTrigger(**kwargs)))


async def _first_event(trigger: GateTrigger) -> Any:
    async for event in trigger.run():
        return event
    return None


def test_taken_when_all_conditions_hold(store: Any) -> None:
    event = ended("{{ context.input.patient_details.sex }} == 'F'", "{{ context.workflow.name }} == 'ct'")
    assert isinstance(event, TaskSuccessEvent)


def test_skipped_with_the_reason_when_one_does_not(store: Any) -> None:
    condition = "{{ context.workflow.name }} == 'mr'"
    event = ended("{{ context.input.patient_details.sex }} == 'F'", condition)
    assert isinstance(event, TaskSkippedEvent)
    assert event.xcoms == {"edge": f'not taken: the condition "{condition}" is false'}


def test_skipped_when_one_cannot_be_evaluated_and_the_reason_holds_no_patient_data(store: Any) -> None:
    event = ended("{{ context.input.patient_details.name }} > '5'")
    assert isinstance(event, TaskSkippedEvent) and event.xcoms
    assert "cannot be evaluated" in event.xcoms["edge"]
    assert SECRET not in event.xcoms["edge"]


def test_reads_what_earlier_tasks_of_the_run_did(store: Any) -> None:
    record = TaskRecord("seg", "map", TaskStatus.SUCCEEDED, "id", result={"volume": 700})
    RunFolder(store, PAYLOAD_ID, "ct", "run").write_record(record)
    assert isinstance(ended("{{ context.executions.seg.result.volume }} > '500'"), TaskSuccessEvent)


def test_what_lies_behind_it_counts_only_when_it_is_taken(store: Any) -> None:
    folder = RunFolder(store, PAYLOAD_ID, "ct", "run")
    for task_id in ("seg", "send", "other"):
        folder.write_record(TaskRecord(task_id, "map", TaskStatus.SUCCEEDED, "id"))
    ended("'1' == '1'", behind=("seg", "send", "never-ran"))
    assert folder.record("seg") and folder.record("send")
    ended("'1' == '2'", behind=("seg", "send", "never-ran"))
    assert folder.record("seg") is None and folder.record("send") is None
    assert folder.record("other")


@pytest.mark.parametrize("payload_id", ["", "no such payload", "0a1b2c3d-0000-4000-8000-00000000dead"])
def test_failed_for_good_with_what_to_do_when_the_run_has_no_payload(store: Any, payload_id: str) -> None:
    """Airflow retries what a trigger fails, so that a worker is told to end it."""
    event = ended("'1' == '1'", payload_id=payload_id)
    assert not isinstance(event, BaseTaskEndEvent)
    assert "rigger" in event.payload["failed"]
    with pytest.raises(AirflowFailException, match="rigger"):
        GateOperator(task_id="way", conditions=["'1' == '1'"]).finish({}, event.payload)


def test_failed_when_the_store_is_damaged(store: Any) -> None:
    store.write(manifest_key(PAYLOAD_ID), b"{")
    event = ended("'1' == '1'")
    assert isinstance(event, TaskFailedEvent) and event.xcoms
    assert "damaged" in event.xcoms["edge"]


def test_an_unforeseen_error_is_told_without_what_it_quotes(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: Any) -> None:
        raise ValueError("DOE^JANE is no number")

    monkeypatch.setattr("airflow_monai.specs.edges.judge_edge", stumble)
    event = ended("'1' == '1'")
    assert isinstance(event, TaskFailedEvent) and event.xcoms
    assert "unexpected ValueError" in event.xcoms["edge"] and "JANE" not in event.xcoms["edge"]
