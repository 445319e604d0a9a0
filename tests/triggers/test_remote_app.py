"""``remote_app_execution`` tasks over a real RabbitMQ: asked once, and ended by what comes back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TaskSuccessEvent

from airflow_monai.broker.base import open_broker
from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import (
    ArtifactsReceivedEvent,
    ExportCompleteEvent,
    ExternalAppRequestEvent,
    TaskCallbackEvent,
    read_event,
)
from airflow_monai.errors import InvalidEvent
from airflow_monai.gateway.answers import AnswerTaker
from airflow_monai.local.processes import wait_until
from airflow_monai.operators.remote_app import RemoteAppOperator
from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key
from airflow_monai.types import TaskStatus
from tests.rabbitmq import RabbitNode
from tests.triggers.conftest import PAYLOAD_ID, Tries

TOPIC = "md.externalapp.request"
PATH = "dcm/1.2/1.2.3/1.2.3.4.dcm"


class Far:
    """The gateway that sends to the application; it does what the test tells it."""

    def __init__(self, node: RabbitNode, exchange: str, store: Store, bucket: LocalStore):
        self.asked: list[ExternalAppRequestEvent] = []
        self.bucket = bucket
        self.taker = AnswerTaker(store, Buckets({"monaideploy": bucket.url}))
        states: list[Any] = []
        self._subscription = open_broker(node.address(exchange)).subscribe([TOPIC], self._take, states.append)
        assert wait_until(lambda: None in states, 90)

    def _take(self, delivered: Any) -> None:
        delivered.message.check()
        self.asked.append(read_event(ExternalAppRequestEvent, delivered.message.body))
        threading.Thread(target=delivered.ack).start()

    def request(self) -> ExternalAppRequestEvent:
        assert wait_until(lambda: bool(self.asked), 60)
        return self.asked[-1]

    def ids(self, **more: Any) -> dict[str, Any]:
        event = self.request()
        return {
            "workflow_instance_id": event.workflow_instance_id, "task_id": event.export_task_id,
            "export_task_id": event.export_task_id, "execution_id": event.export_task_id,
            "correlation_id": "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e02", "payload_id": PAYLOAD_ID,
            "bucket": "monaideploy", "identity": "app-1", **more,
        }  # fmt: skip

    def sends_back(self, kind: str, name: str, content: bytes) -> None:
        path = f"{PAYLOAD_ID}/inference/{name}"
        self.bucket.write(path, content)
        self.tell(ArtifactsReceivedEvent, artifacts=[{"Type": kind, "Path": path}])

    def tell(self, kind: Any, **more: Any) -> None:
        self.taker.take(read_event(kind, json.dumps(self.ids(**more)).encode()))

    def close(self) -> None:
        self._subscription.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.triggers.light.OTHER_TRIGGERER_SECONDS", 0.1)
    monkeypatch.setattr("airflow_monai.triggers.remote_app.POLL_SECONDS", 0.1)


@pytest.fixture
def far(
    rabbit: RabbitNode, exchange: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Far]:
    bucket = LocalStore(tmp_path / "bucket")
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_CONN_ID", "site_broker")
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_BUCKETS", json.dumps({"monaideploy": bucket.url}))
    monkeypatch.setenv("AIRFLOW_CONN_SITE_BROKER", rabbit.airflow_connection(exchange))
    rabbit.purge(TOPIC)
    file = {"path": PATH, "size": 5, "sop_instance_uid": "1.2.3.4", "sop_class_uid": "", "series_instance_uid": "1.2.3",
            "transfer_syntax_uid": ""}  # fmt: skip
    manifest = store.read_json(manifest_key(PAYLOAD_ID))
    store.write_json(manifest_key(PAYLOAD_ID), {**manifest, "files": [file]})
    store.write(f"payloads/{PAYLOAD_ID}/{PATH}", b"image")
    far = Far(rabbit, exchange, store, bucket)
    yield far
    far.close()


def task(**more: Any) -> RemoteAppOperator:
    with DAG("ct", schedule=None):
        return RemoteAppOperator(
            task_id="elsewhere",
            retries=2,
            destinations=["READER"],
            inputs=[{"name": "study", "value": "{{ context.input.dicom }}", "mandatory": True}],
            outputs=[
                {"name": "seg", "type": "SEG", "value": "", "mandatory": True},
                {"name": "report", "type": "SR", "value": "", "mandatory": False},
            ],
            **more,
        )


class Running:
    """The task's trigger in a thread."""

    def __init__(self, tries: Tries, operator: RemoteAppOperator):
        self.event: Any = None
        self._thread = threading.Thread(target=self._run, args=(tries, operator))
        self._thread.start()

    def _run(self, tries: Tries, operator: RemoteAppOperator) -> None:
        self.event = tries.event(operator)

    def ends(self) -> Any:
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.event


def test_inputs_go_out_and_results_come_back(tries: Tries, far: Far, store: Store) -> None:
    running = Running(tries, task())
    event = far.request()
    (path,) = event.files
    assert far.bucket.read(path) == b"image" and path.startswith(f"{PAYLOAD_ID}/exports/ct/")
    assert [target.destination for target in event.targets] == ["READER"]
    far.tell(ExportCompleteEvent, status="Success")
    far.sends_back("SR", "report.dcm", b"report")
    time.sleep(0.5)
    assert running.event is None, "the mandatory one is still to come"
    far.sends_back("SEG", "seg.dcm", b"seg")
    far.sends_back("SEG", "seg.dcm", b"seg")  # again
    assert isinstance(running.ends(), TaskSuccessEvent)
    record = tries.record(task())
    assert record is not None and record.status is TaskStatus.SUCCEEDED
    assert {name: [store.read(key) for key in keys] for name, keys in record.artifacts.items()} == {
        "seg": [b"seg"], "report": [b"report"],
    }  # fmt: skip
    assert len(far.asked) == 1
    with pytest.raises(InvalidEvent, match="It comes too late"):
        far.sends_back("SR", "another.dcm", b"late")


def test_a_triggerer_that_dies_leaves_one_request(tries: Tries, far: Far) -> None:
    operator = task()
    process = tries.living(operator)
    far.request()
    assert wait_until(lambda: "published" in json.loads(_state(tries, operator) or "{}"), 60)
    process.kill()
    process.join()
    running = Running(tries, operator)
    far.sends_back("SEG", "seg.dcm", b"seg")
    assert isinstance(running.ends(), TaskSuccessEvent)
    assert len(far.asked) == 1


def _state(tries: Tries, operator: RemoteAppOperator) -> bytes:
    key = tries.note(operator, "state")
    return tries.store.read(key) if tries.store.exists(key) else b""


def test_inputs_that_could_not_be_sent_end_the_task(tries: Tries, far: Far) -> None:
    running = Running(tries, task())
    far.request()
    far.tell(ExportCompleteEvent, status="Failure")
    running.ends()
    record = tries.record(task())
    assert record is not None and record.status is TaskStatus.FAILED
    assert "could not be sent to READER; the gateway there says Failure" in str(record.error_msg)


def test_a_callback_ends_it_and_what_is_missing_is_named(tries: Tries, far: Far) -> None:
    running = Running(tries, task())
    far.request()
    far.tell(TaskCallbackEvent, metadata={"volume": 17})
    running.ends()
    record = tries.record(task())
    assert record is not None and "has ended and has not sent seg" in str(record.error_msg)


def test_a_callback_brings_values(tries: Tries, far: Far) -> None:
    running = Running(tries, task())
    far.request()
    far.sends_back("SEG", "seg.dcm", b"seg")
    far.tell(TaskCallbackEvent, metadata={"volume": 17})
    running.ends()
    record = tries.record(task())
    assert record is not None and record.status is TaskStatus.SUCCEEDED
    assert record.result in ({"volume": 17}, {})  # the results alone may have been enough


def test_a_site_without_a_broker(tries: Tries, store: Store) -> None:
    tries.event(task())
    record = tries.record(task())
    assert record is not None and "this site has none: set [monai] broker_conn_id" in str(record.error_msg)
