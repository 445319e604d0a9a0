"""Deliveries by a gateway elsewhere: asked for once by a message, and judged by what it answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.broker.base import open_broker
from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import ExportCompleteEvent, ExportRequestEvent, read_event
from airflow_monai.errors import DestinationError, InvalidEvent, SinkUnavailable
from airflow_monai.gateway.answers import AnswerTaker
from airflow_monai.sinks import asked as module
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance
from airflow_monai.sinks.broker import BrokerSink
from airflow_monai.sinks.order import ExportOrder
from airflow_monai.sinks.registry import open_sink
from airflow_monai.store.local import LocalStore
from airflow_monai.store.runs import RunFolder
from tests.gateway.conftest import wait_for
from tests.rabbitmq import RabbitNode

PAYLOAD = "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e01"
SUCCESS, SERVICE, CONFIGURATION = "Success", "ServiceError", "ConfigurationError"


class Far:
    """A gateway elsewhere that answers as it is told.

    :ivar answer: makes status and file statuses of the files that it is asked for; None for no answer.
    """

    def __init__(self, node: RabbitNode, exchange: str, store: LocalStore):
        self.node, self.exchange, self.store = node, exchange, store
        self.agent = f"agent-{exchange}"
        self.topic = f"md.export.request.{self.agent}"
        self.asked: list[ExportRequestEvent] = []
        self.ids: list[str] = []
        self.answer: Callable[[ExportRequestEvent], tuple[str, dict[str, str]] | None] = lambda event: (SUCCESS, {})
        self._subscription = open_broker(node.address(exchange)).subscribe([self.topic], self._take)
        wait_for(self._is_there, 90)

    def _is_there(self) -> bool:
        try:
            return self.node.depth(self.topic) == 0
        except Exception:  # noqa: BLE001 - not declared yet
            return False

    def _take(self, delivered: Any) -> None:
        delivered.message.check()
        event = read_event(ExportRequestEvent, delivered.message.body)
        self.asked.append(event)
        self.ids.append(delivered.message.message_id)
        threading.Thread(target=self._work, args=(delivered, event)).start()

    def _work(self, delivered: Any, event: ExportRequestEvent) -> None:
        answer = self.answer(event)
        if answer is not None:
            self.complete(event, *answer)
        delivered.ack()

    def complete(self, event: ExportRequestEvent, status: str, files: dict[str, str], message: str = "") -> None:
        body = {
            "workflow_instance_id": event.workflow_instance_id,
            "export_task_id": event.export_task_id,
            "status": status,
            "file_statuses": files,
            "message": message,
        }
        AnswerTaker(self.store, Buckets({})).take(read_event(ExportCompleteEvent, json.dumps(body).encode()))

    def close(self) -> None:
        self._subscription.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def far(rabbit: RabbitNode, exchange: str, store: LocalStore) -> Iterator[Far]:
    far = Far(rabbit, exchange, store)
    yield far
    far.close()


def sink(far: Far, generation: int = 1, **extra: Any) -> BrokerSink:
    """The sink as an export task has it."""
    destination = Destination(
        "PACS", "monai_broker", "127.0.0.1", far.node.port, {"exchange": far.exchange, "agent": far.agent, **extra},
        "/", "guest", "guest",
    )  # fmt: skip
    made = open_sink(destination)
    assert isinstance(made, BrokerSink)
    folder = RunFolder(far.store, PAYLOAD, "ct-lung", f"monai__{PAYLOAD}")
    made.order = ExportOrder(folder, "to-pacs", -1, generation)
    return made


def instances(store: LocalStore, *names: str) -> list[Instance]:
    found = []
    for name in names:
        key = f"payloads/{PAYLOAD}/workflows/ct-lung/run/segment/g1/seg/{name}.dcm"
        store.write(key, name.encode())
        path = store.local_path(key)
        assert path is not None
        found.append(Instance(key, path, f"{PAYLOAD}/ct-lung/to-pacs/seg/{name}.dcm", f"1.2.{len(name)}"))
    return found


def deliver(target: BrokerSink, wanted: list[Instance]) -> dict[str, Delivery]:
    """Identity -> its last news; each was told as sent before."""
    news: list[Delivery] = []
    target.send(wanted, news.append)
    assert [item.state for item in news[: len(wanted)]] == [DeliveryState.SENT] * len(wanted)
    return {item.identity: item for item in news}


def test_a_request_names_files_of_the_bucket_and_the_answer_decides(far: Far, store: LocalStore) -> None:
    wanted = instances(store, "a", "bb", "ccc")

    def answer(event: ExportRequestEvent) -> tuple[str, dict[str, str]]:
        assert all(store.exists(path) for path in event.files)
        return "PartialFailure", dict(zip(event.files, (SUCCESS, SERVICE, CONFIGURATION), strict=True))

    far.answer = answer
    verdicts = deliver(sink(far, destinations="ARCHIVE, MAIN"), wanted)
    assert [(item.state, item.retry) for item in verdicts.values()] == [
        (DeliveryState.ACCEPTED, False),
        (DeliveryState.REFUSED, True),
        (DeliveryState.REFUSED, False),
    ]
    assert verdicts["1.2.2"].message == "the far side says ServiceError"
    (event,) = far.asked
    assert event.destinations == ("ARCHIVE", "MAIN") and event.files == tuple(item.key for item in wanted)
    assert event.payload_id == PAYLOAD and event.message_id == far.ids[0]


@pytest.mark.parametrize(
    ("status", "state", "retry"),
    [
        ("Success", DeliveryState.ACCEPTED, False),
        ("Failure", DeliveryState.REFUSED, True),
        ("PartialFailure", DeliveryState.UNKNOWN, True),
        ("Unknown", DeliveryState.UNKNOWN, True),
    ],
)
def test_an_answer_may_say_nothing_of_single_files(
    far: Far, store: LocalStore, status: str, state: DeliveryState, retry: bool
) -> None:
    far.answer = lambda event: (status, {})
    verdicts = deliver(sink(far), instances(store, "a"))
    assert (verdicts["1.2.1"].state, verdicts["1.2.1"].retry) == (state, retry)


def test_a_try_after_a_crash_waits_for_the_answer_and_asks_for_nothing_twice(far: Far, store: LocalStore) -> None:
    wanted = instances(store, "a", "bb")
    far.answer = lambda event: None
    with pytest.raises(SinkUnavailable, match="Another try waits on, and asks for nothing twice"):
        deliver(sink(far, wait_minutes=0.05), wanted)
    wait_for(lambda: far.asked)
    far.complete(far.asked[0], SUCCESS, {})
    verdicts = deliver(sink(far), wanted)
    assert {item.state for item in verdicts.values()} == {DeliveryState.ACCEPTED}
    assert len(far.asked) == 1


def test_a_message_that_may_have_been_published_goes_out_again_under_its_id(far: Far, store: LocalStore) -> None:
    wanted = instances(store, "a")
    target = sink(far)
    deliver(target, wanted)
    assert target.order is not None
    for what in ("published", "answer", "told"):  # as if the process had died before it noted either
        store.delete(target.order.note_key(f"export-PACS-1-{what}"))
    deliver(sink(far), wanted)
    assert len(far.ids) == 2 and len(set(far.ids)) == 1
    assert far.asked[0] == far.asked[1]


def test_what_was_refused_is_asked_for_again_in_another_round(far: Far, store: LocalStore) -> None:
    wanted = instances(store, "a", "bb")
    far.answer = lambda event: ("PartialFailure", {event.files[0]: SUCCESS, event.files[1]: SERVICE})
    deliver(sink(far), wanted)
    far.answer = lambda event: (SUCCESS, {})
    verdicts = deliver(sink(far), wanted[1:])
    assert verdicts["1.2.2"].state is DeliveryState.ACCEPTED
    assert [event.files for event in far.asked] == [(wanted[0].key, wanted[1].key), (wanted[1].key,)]
    assert far.ids[0] != far.ids[1] and far.asked[0].export_task_id != far.asked[1].export_task_id
    assert far.asked[0].workflow_instance_id == far.asked[1].workflow_instance_id


def test_a_cleared_task_asks_anew(far: Far, store: LocalStore) -> None:
    wanted = instances(store, "a")
    deliver(sink(far), wanted)
    deliver(sink(far, generation=2), wanted)
    assert len(set(far.ids)) == 2


def test_an_export_may_be_done_once_it_was_asked_for(far: Far, store: LocalStore) -> None:
    far.answer = lambda event: None
    verdicts = deliver(sink(far, wait=False), instances(store, "a"))
    assert verdicts["1.2.1"].state is DeliveryState.ACCEPTED
    wait_for(lambda: len(far.asked) == 1)
    with pytest.raises(InvalidEvent, match="No export was asked for"):
        far.complete(far.asked[0], SUCCESS, {})  # nobody waits for it


def test_files_go_into_the_far_gateway_s_bucket_where_the_store_is_none(
    far: Far, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = LocalStore(tmp_path / "bucket")
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_BUCKETS", json.dumps({"monaideploy": bucket.url}))
    wanted = instances(store, "a")
    deliver(sink(far, bucket="monaideploy"), wanted)
    (path,) = far.asked[0].files
    assert path == f"{PAYLOAD}/exports/ct-lung/to-pacs/seg/a.dcm" and bucket.read(path) == b"a"
    bucket.delete(path)
    bucket.write(path, b"something else")
    deliver(sink(far, generation=2, bucket="monaideploy"), wanted)
    (other,) = far.asked[1].files
    assert other != path and bucket.read(other) == b"a"


def test_a_store_within_the_bucket_needs_no_copy(
    far: Far, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_BUCKETS", json.dumps({"monaideploy": str(tmp_path)}))
    wanted = instances(store, "a")
    deliver(sink(far, bucket="monaideploy"), wanted)
    assert far.asked[0].files == (f"store/{wanted[0].key}",)


def test_a_bucket_that_the_site_has_not_is_told(far: Far, store: LocalStore) -> None:
    with pytest.raises(DestinationError, match="This site has no bucket 'elsewhere'"):
        deliver(sink(far, bucket="elsewhere"), instances(store, "a"))
    assert not far.asked


def test_an_agent_that_nobody_runs_is_told(far: Far, store: LocalStore) -> None:
    with pytest.raises(DestinationError, match=r"no queue wants messages of topic 'md.export.request.nobody'"):
        deliver(sink(far, agent="nobody"), instances(store, "a"))


def test_a_broker_that_is_away_is_tried_again(far: Far, store: LocalStore, free_port: int) -> None:
    target = sink(far)
    wanted = instances(store, "a")
    destination = Destination("PACS", "monai_broker", "127.0.0.1", free_port, {"agent": far.agent})
    away = BrokerSink(destination)
    away.order = target.order
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        deliver(away, wanted)
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        away.test()
    deliver(target, wanted)
    assert len(far.asked) == 1


def test_the_test_button_logs_in(far: Far) -> None:
    assert f"Exports go out as {far.topic}." in sink(far).test()
    with pytest.raises(DestinationError, match="it names no agent"):
        BrokerSink(Destination("PACS", "monai_broker", "127.0.0.1", 1))


def test_answers_that_come_twice_change_nothing(far: Far, store: LocalStore) -> None:
    wanted = instances(store, "a")
    deliver(sink(far), wanted)
    far.complete(far.asked[0], "Failure", {})
    time.sleep(0.1)
    target = sink(far)
    assert target.order is not None
    assert store.read_json(target.order.note_key("export-PACS-1-answer"))["body"]["status"] == "Success"
