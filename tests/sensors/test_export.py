"""The sensor of exports tells a delivered result from one that is not, or never will be."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.sensors.export import ExportFinishedSensor
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import run_id_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.triggers.export import ExportFinishedTrigger
from airflow_monai.types import TaskRecord, TaskStatus

from .conftest import event_of

PAYLOAD = str(uuid.uuid4())


def ended(store: LocalStore, status: TaskStatus, run: str = "", **more: object) -> None:
    folder = RunFolder(store, PAYLOAD, "ct-lung", run or run_id_of(PAYLOAD))
    folder.write_record(TaskRecord("to-pacs", "export", status, "x", **more))  # type: ignore[arg-type]


def trigger(**more: object) -> ExportFinishedTrigger:
    return ExportFinishedTrigger(
        payload_id=PAYLOAD,
        workflow="ct-lung",
        export_task_id="to-pacs",
        poll_interval=0.01,
        **more,  # type: ignore[arg-type]
    )


def test_a_delivered_export_tells_what_each_destination_took(store: LocalStore) -> None:
    with pytest.raises(asyncio.TimeoutError):
        event_of(trigger(), 0.2)
    ended(store, TaskStatus.ACCEPTED)
    with pytest.raises(asyncio.TimeoutError):
        event_of(trigger(), 0.2)
    ended(store, TaskStatus.SUCCEEDED, result={"accepted": {"PACS": 2}})
    assert event_of(trigger()) == {"found": {"PACS": 2}}


def test_the_run_of_another_name_is_another_export(store: LocalStore) -> None:
    ended(store, TaskStatus.SUCCEEDED, run="manual__1", result={"accepted": {"PACS": 7}})
    assert trigger().find() is None
    assert trigger(run_id="manual__1").find() == {"PACS": 7}


def test_a_failed_export_is_waited_for_unless_told_otherwise(store: LocalStore) -> None:
    ended(store, TaskStatus.FAILED, error_msg="PACS: 1 of 2 refused (A700)")
    assert trigger().find() is None
    event = event_of(trigger(fail_when_refused=True))
    assert "1 of 2 refused (A700)" in event["failed"]
    sensor = ExportFinishedSensor(
        task_id="delivered", payload_id=PAYLOAD, workflow="ct-lung", export_task_id="to-pacs", fail_when_refused=True
    )
    with pytest.raises(AirflowFailException, match="A700"):
        sensor.finish({}, event)  # type: ignore[typeddict-item]
    assert sensor.finish({}, {"found": {"PACS": 2}}) == {"PACS": 2}  # type: ignore[typeddict-item]


def test_what_cannot_be_an_export_ends_the_waiting(store: LocalStore) -> None:
    nonsense = ExportFinishedTrigger(payload_id="../x", workflow="w", export_task_id="t")
    assert "no payload id" in event_of(nonsense)["failed"]
    ended(store, TaskStatus.SUCCEEDED, result={"volume_ml": 7})
    assert "no export" in event_of(trigger())["failed"]


def test_the_sensor_starts_in_the_triggerer() -> None:
    sensor = ExportFinishedSensor(task_id="d", payload_id=PAYLOAD, workflow="w", export_task_id="t", run_id="r")
    arguments = sensor.start_trigger_args
    rebuilt = ExportFinishedTrigger(**arguments.trigger_kwargs)
    assert rebuilt.serialize() == (arguments.trigger_cls, arguments.trigger_kwargs)
