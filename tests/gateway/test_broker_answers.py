"""Answers that come by a real RabbitMQ reach the task that waits, each once."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_monai.broker.base import REASON_HEADER, Message, open_broker
from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events.topics import ANSWERS
from airflow_monai.gateway.broker import BrokerWay
from airflow_monai.gateway.service import Gateway, GatewayOptions
from airflow_monai.gateway.ways import GatewayParts
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from airflow_monai.store.answers import AnswerKind, Awaited, await_answer
from airflow_monai.store.callbacks import await_callback
from airflow_monai.store.giving import Waiting, note_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.gateway.conftest import Site
from tests.gateway.conftest import wait_for as wait_at_most
from tests.rabbitmq import DEAD, RabbitNode

PAYLOAD = "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e01"
CALLBACK, OLDER, COMPLETE, ARTIFACTS = (
    "md.tasks.callback", "md.workflow.task_callback", "md.export.complete", "md.workflow.artifactrecieved",
)  # fmt: skip


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Long enough for the first call of Airflow's API in a process on a busy machine."""
    return wait_at_most(what, seconds)


class Desk:
    """A gateway that takes answers, and who sends them."""

    def __init__(self, site: Site, node: RabbitNode, exchange: str):
        self.site, self.node, self.exchange = site, node, exchange
        node.purge(*ANSWERS)
        broker = open_broker(node.address(exchange))

        def way(parts: GatewayParts) -> BrokerWay:
            buckets = Buckets({"monaideploy": str(site.folder / "bucket")})
            return BrokerWay(parts, broker, buckets, topics=ANSWERS)

        options = GatewayOptions(str(site.workflows), "127.0.0.1", 0, 0.5, site.events_file)
        gateway = Gateway(site.store, options, AirflowEngine(AirflowApi("monai_airflow")), [way])
        gateway.start()
        site._gateways.append(gateway)
        site.wait_for_event("broker-connected", seconds=60)

    def publish(self, topic: str, **event: Any) -> None:
        message = Message(
            topic, json.dumps(event).encode(), str(uuid.uuid4()), str(uuid.uuid4()), "app", "application/json",
            timestamp=int(time.time()),
        )  # fmt: skip
        with open_broker(self.node.address(self.exchange)).publisher() as publisher:
            publisher.publish(message)

    def callback(self, topic: str = CALLBACK, **changes: Any) -> None:
        event = {
            "workflow_instance_id": "w", "task_id": "t", "execution_id": "e", "correlation_id": "c",
            "identity": "i", "metadata": {"volume": 17}, "outputs": [], **changes,
        }  # fmt: skip
        self.publish(topic, **event)

    def dead(self, topic: str = CALLBACK) -> list[str]:
        return [properties.headers[REASON_HEADER] for properties, _ in self.node.drain(f"{topic}{DEAD}")]

    def note(self, waiting: Waiting) -> Any:
        key = note_key(self.site.store, waiting)
        return self.site.store.read_json(key)["body"] if self.site.store.exists(key) else None

    def ended(self, waiting: Waiting, status: TaskStatus) -> None:
        folder = RunFolder(self.site.store, waiting.payload_id, waiting.dag_id, waiting.run_id)
        folder.write_record(TaskRecord(waiting.task_id, "http_async", status, "e", waiting.generation))


@pytest.fixture
def desk(site: Site, rabbit: RabbitNode, exchange: str) -> Iterator[Desk]:
    yield Desk(site, rabbit, exchange)


@pytest.fixture
def waiting() -> Waiting:
    return Waiting(PAYLOAD, "ct-lung", f"monai__{PAYLOAD}", "job", -1, 1, "callback")


@pytest.mark.parametrize("topic", [CALLBACK, OLDER])
def test_a_callback_by_the_token_that_the_task_gave_away(desk: Desk, waiting: Waiting, topic: str) -> None:
    token = secrets.token_urlsafe(32)
    await_callback(desk.site.store, token, waiting)
    desk.callback(topic, identity=token)
    assert wait_for(lambda: desk.note(waiting)) == {"volume": 17}
    desk.callback(topic, identity=token, metadata={"volume": 18})  # a second one changes nothing, and is no dead letter
    desk.callback(topic, identity="nobody's")  # comes after it, and is one
    (reason,) = wait_for(lambda: desk.dead(topic))
    assert reason.startswith("No task waits for this callback")
    time.sleep(0.5)
    assert desk.note(waiting) == {"volume": 17} and not desk.dead(topic)


def test_a_callback_by_the_id_of_the_execution(desk: Desk, waiting: Waiting) -> None:
    await_answer(desk.site.store, AnswerKind.CALLBACK, ("e-17",), Awaited(waiting))
    desk.callback(execution_id="e-17")
    assert wait_for(lambda: desk.note(waiting)) == {"volume": 17}


def test_a_callback_that_nobody_waits_for_is_a_dead_letter(desk: Desk) -> None:
    desk.callback(identity="Doe^Jane")
    (reason,) = wait_for(desk.dead)
    assert reason.startswith("No task waits for this callback") and "Doe" not in reason


def test_a_callback_after_the_end_is_a_dead_letter(desk: Desk, waiting: Waiting) -> None:
    await_answer(desk.site.store, AnswerKind.CALLBACK, ("e-17",), Awaited(waiting))
    desk.ended(waiting, TaskStatus.CANCELED)
    desk.callback(execution_id="e-17")
    (reason,) = wait_for(desk.dead)
    assert reason == "It comes too late: the task that waited for it has ended, or its payload was deleted."
    assert desk.note(waiting) is None


def test_a_failed_task_that_may_be_tried_again_keeps_its_callback(desk: Desk, waiting: Waiting) -> None:
    await_answer(desk.site.store, AnswerKind.CALLBACK, ("e-17",), Awaited(waiting))
    desk.ended(waiting, TaskStatus.FAILED)
    desk.callback(execution_id="e-17")
    assert wait_for(lambda: desk.note(waiting)) == {"volume": 17}


def test_what_became_of_an_export(desk: Desk, waiting: Waiting) -> None:
    await_answer(desk.site.store, AnswerKind.EXPORT, ("w", "x-1"), Awaited(waiting))
    event = {"workflow_instance_id": "w", "export_task_id": "x-1", "status": "PartialFailure"}
    desk.publish(COMPLETE, **event, file_statuses={"a.dcm": 0, "b.dcm": "DownloadError"})
    assert wait_for(lambda: desk.note(waiting)) == {
        "status": "PartialFailure", "message": "", "files": {"a.dcm": "Success", "b.dcm": "DownloadError"},
    }  # fmt: skip
    desk.publish(COMPLETE, **{**event, "export_task_id": "x-2"})
    (reason,) = wait_for(lambda: desk.dead(COMPLETE))
    assert reason.startswith("No export was asked for")


def test_what_became_of_an_export_in_the_words_of_the_first_draft(desk: Desk, waiting: Waiting) -> None:
    await_answer(desk.site.store, AnswerKind.EXPORT, ("w", "x-1"), Awaited(waiting))
    event = {"Transaction ID": "w", "Export Task ID": "x-1", "Correlation ID": "c", "Sink": "PACS", "Message": "sent"}
    desk.publish("export.completed", **event, Status=0)
    assert wait_for(lambda: desk.note(waiting)) == {"status": "Success", "message": "sent", "files": {}}
    desk.publish("export.completed", **event, Status=17)
    (reason,) = wait_for(lambda: desk.dead("export.completed"))
    assert reason.startswith("The message is no ExportTaskCompleted: status")


def test_artifacts_of_an_application_elsewhere(desk: Desk, waiting: Waiting) -> None:
    output = f"payloads/{PAYLOAD}/workflows/ct-lung/run/elsewhere/g1"
    awaited = Awaited(waiting, output, (("seg", "SEG"), ("report", "SR")))
    await_answer(desk.site.store, AnswerKind.ARTIFACTS, ("w", "t"), awaited)
    path = desk.site.folder / "bucket" / PAYLOAD / "inference" / "seg.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"seg")
    event = {
        "payload_id": PAYLOAD, "correlation_id": str(uuid.uuid4()), "bucket": "monaideploy",
        "workflow_instance_id": "w", "task_id": "t",
    }  # fmt: skip
    desk.publish(ARTIFACTS, **event, artifacts=[{"Type": "SEG", "Path": f"{PAYLOAD}/inference/seg.dcm"}])
    wait_for(lambda: desk.site.store.exists(f"{output}/seg/seg.dcm"))
    assert desk.site.store.read(f"{output}/seg/seg.dcm") == b"seg"
    desk.publish(ARTIFACTS, **event, artifacts=[{"Type": "CT", "Path": f"{PAYLOAD}/inference/seg.dcm"}])
    (reason,) = wait_for(lambda: desk.dead(ARTIFACTS))
    assert "it waits for SEG, SR" in reason
