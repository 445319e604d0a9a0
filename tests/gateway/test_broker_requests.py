"""Workflow requests of a real RabbitMQ become payloads and runs: each once, and what is wrong is told."""

from __future__ import annotations

import json
import shutil
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika.data
import pytest

from airflow_monai.broker.base import REASON_HEADER, Message, open_broker
from airflow_monai.broker.buckets import Buckets
from airflow_monai.errors import InvalidEvent
from airflow_monai.gateway.broker import LAST_LOOK, BrokerWay
from airflow_monai.gateway.requests import Asked
from airflow_monai.gateway.service import Gateway, GatewayOptions
from airflow_monai.gateway.ways import GatewayParts
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from airflow_monai.store.history import history_of
from airflow_monai.store.payloads import load_payload, run_id_of
from airflow_monai.store.requests import PayloadRequest, request_of
from tests.gateway.conftest import Site, write_workflow
from tests.gateway.conftest import wait_for as wait_at_most
from tests.pacs import make_images
from tests.rabbitmq import DEAD, RabbitNode
from tests.s3_server import S3Server, s3  # noqa: F401

TOPIC, DRAFT = "md.workflow.request", "workflow.request"


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Long enough for the first call of Airflow's API in a process on a busy machine."""
    return wait_at_most(what, seconds)


class Sender:
    """Another gateway: puts files into the bucket and publishes requests."""

    def __init__(self, node: RabbitNode, exchange: str, folder: Path):
        self.node, self.exchange, self.folder = node, exchange, folder
        self.bucket = folder / "bucket"
        self.bucket.mkdir(parents=True, exist_ok=True)

    @property
    def topic(self) -> str:
        return TOPIC

    def files(self, payload_id: str, images: int = 2, **about: Any) -> list[Path]:
        """Images of a new study, where the published layout has them."""
        made = make_images(self.folder / "made" / payload_id, images, rows=8, **about)
        placed = []
        for number, path in enumerate(made):
            target = self.bucket / payload_id / "dcm" / "1.2.3" / "1.2.3.4" / f"{number}.dcm"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            target.with_name(f"{number}.dcm.json").write_text('{"00100010": {"vr": "PN"}}')
            placed.append(target)
        return placed

    def event(self, payload_id: str, **changes: Any) -> dict[str, Any]:
        event = {
            "payload_id": payload_id,
            "workflows": [],
            "file_count": 2,
            "correlation_id": str(uuid.uuid4()),
            "bucket": "monaideploy",
            "timestamp": "2026-03-01T10:00:00Z",
            "trigger": {"dataService": 1, "source": "CT01", "destination": "CTLUNG"},
            "payload": [],
            **changes,
        }
        return {name: value for name, value in event.items() if value is not None}

    def publish(self, event: Any, topic: str = TOPIC, **properties: Any) -> None:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        message = Message(
            topic=topic,
            body=body,
            **{
                "message_id": str(uuid.uuid4()),
                "correlation_id": str(uuid.uuid4()),
                "app_id": "sender",
                "content_type": "application/json",
                "type": "WorkflowRequestEvent",
                "timestamp": int(time.time()),
                **properties,
            },
        )
        with open_broker(self.node.address(self.exchange)).publisher() as publisher:
            publisher.publish(message)

    def send(self, images: int = 2, **changes: Any) -> str:
        """A request with its files; the payload's id."""
        payload_id = str(uuid.uuid4())
        self.files(payload_id, images)
        self.publish(self.event(payload_id, **changes))
        return payload_id

    def dead(self, topic: str = TOPIC) -> list[tuple[str, bytes]]:
        """(reason, body) of the dead letters, taken out."""
        found = self.node.drain(f"{topic}{DEAD}")
        return [((properties.headers or {}).get(REASON_HEADER, ""), body) for properties, body in found]


@pytest.fixture
def sender(rabbit: RabbitNode, exchange: str, tmp_path: Path) -> Iterator[Sender]:
    rabbit.purge(TOPIC, DRAFT)
    yield Sender(rabbit, exchange, tmp_path / "sender")


@pytest.fixture
def start(site: Site, sender: Sender) -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway that takes requests, once its queues are there."""

    def started(**options: Any) -> Gateway:
        broker = open_broker(sender.node.address(sender.exchange))

        def way(parts: GatewayParts) -> BrokerWay:
            buckets = Buckets({"monaideploy": str(sender.bucket)})
            return BrokerWay(parts, broker, buckets, topics=(TOPIC, DRAFT), **options)

        connected = len(site.events("broker-connected"))
        gateway_options = GatewayOptions(str(site.workflows), "127.0.0.1", 0, 0.5, site.events_file)
        gateway = Gateway(site.store, gateway_options, AirflowEngine(AirflowApi("monai_airflow")), [way])
        gateway.start()
        site._gateways.append(gateway)
        wait_for(lambda: len(site.events("broker-connected")) > connected)
        return gateway

    yield started


def runs(site: Site) -> list[tuple[str, str]]:
    return sorted(site.airflow.runs)


def settled(sender: Sender, topic: str = TOPIC) -> bool:
    """Whether no message waits for its turn; one may be held."""
    return sender.node.depth(topic) == 0


def stop_when_done(site: Site, sender: Sender, gateway: Gateway) -> None:
    """Stop the gateway when all is done; what it had not acknowledged would be back in the queue then."""
    wait_for(lambda: not list(site.store.children("pending")) and settled(sender))
    time.sleep(LAST_LOOK)
    gateway.stop(1.0)
    assert sender.node.depth(TOPIC) == 0


def test_a_request_becomes_one_payload_and_one_run(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    gateway = start()
    payload_id = sender.send(3, file_count=3)
    wait_for(lambda: runs(site))
    stop_when_done(site, sender, gateway)
    assert runs(site) == [("ct-lung", run_id_of(payload_id))]
    payload = load_payload(site.store, payload_id)
    assert (payload.called_aet, payload.calling_aets, len(payload.files)) == ("CTLUNG", ("CT01",), 3)
    request = request_of(site.store, payload_id)
    assert request is not None and request.bucket == "monaideploy" and len(request.correlation_id) == 36
    assert not sender.dead() and not site.unfinished()


def test_the_same_request_again_and_again_starts_nothing_more(
    site: Site, sender: Sender, start: Callable[..., Gateway]
) -> None:
    start()
    start()  # two gateways on one store
    payload_id = str(uuid.uuid4())
    sender.files(payload_id)
    event = sender.event(payload_id)
    for _ in range(6):
        sender.publish({**event, "correlation_id": str(uuid.uuid4())}, message_id="the-same")
    wait_for(lambda: runs(site))
    wait_for(lambda: len(site.events("request-taken")) == 6)
    sender.publish(event)  # long after all was done
    wait_for(lambda: len(site.events("request-taken")) == 7 and settled(sender))
    assert runs(site) == [("ct-lung", run_id_of(payload_id))]
    assert not sender.dead()


def test_a_request_is_held_until_its_runs_exist(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    site.airflow.down = True
    gateway = start(hold=1.0)  # so that it is put back in between
    payload_id = sender.send()
    site.wait_for_event("request-taken", 3)
    gateway.stop(1.0)
    wait_for(lambda: sender.node.depth(TOPIC) == 1)  # still there, for whoever comes next
    site.airflow.down = False
    gateway = start()
    wait_for(lambda: runs(site))
    stop_when_done(site, sender, gateway)
    assert runs(site) == [("ct-lung", run_id_of(payload_id))] and not sender.dead()


def test_named_workflows_run_and_no_others(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    write_workflow(site.workflows, "other", "OTHER")
    write_workflow(site.workflows, "third", "CTLUNG")
    start()
    payload_id = sender.send(workflows=["other"])
    wait_for(lambda: runs(site))
    wait_for(lambda: settled(sender))
    assert runs(site) == [("other", run_id_of(payload_id))]


def test_a_payload_that_nobody_wants_is_kept(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    start()
    payload_id = sender.send(trigger={"dataService": 1, "source": "CT01", "destination": "NOBODY"})
    (event,) = site.wait_for_event("unrouted")
    assert event["payload_id"] == payload_id
    wait_for(lambda: settled(sender))
    assert not sender.dead() and not runs(site)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"workflows": ["nowhere"]}, "There is no workflow 'nowhere' here."),
        ({"bucket": "elsewhere"}, "This site has no bucket 'elsewhere', it has monaideploy."),
        ({"correlation_id": "Doe^Jane"}, "correlation_id is not a GUID"),
        ({"trigger": None}, "trigger is missing"),
    ],
)
def test_what_is_wrong_is_a_dead_letter_with_the_reason(
    site: Site, sender: Sender, start: Callable[..., Gateway], changes: dict[str, Any], told: str
) -> None:
    start()
    sender.send(**changes)
    ((reason, _),) = wait_for(sender.dead)
    assert told in reason and "Doe" not in reason
    (event,) = site.wait_for_event("message-refused")
    assert event["reason"] == reason
    assert settled(sender) and not runs(site)


def test_messages_without_properties_or_json_are_dead_letters(
    site: Site, sender: Sender, start: Callable[..., Gateway]
) -> None:
    start()
    sender.publish(b"{nonsense", message_id="m1")
    sender.publish(sender.event(str(uuid.uuid4())), app_id="", timestamp=None)
    wait_for(lambda: len(site.events("message-refused")) == 2)
    reasons = sorted(reason for reason, _ in sender.dead())
    assert reasons == ["The message has no app_id, no timestamp among its properties.", "The message is not JSON."]


def test_what_the_client_library_can_neither_read_nor_write_holds_up_nothing(
    site: Site, sender: Sender, start: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end the connection, and come again with the next one, until the delivery limit."""
    start()
    beyond_time = struct.pack(">cQ", b"T", 2**63)
    huge_number = struct.pack(">cd", b"d", 1e300)
    nested = struct.pack(">cIB", b"F", 2 + len(beyond_time), 1) + b"x" + beyond_time
    encode = pika.data.encode_value
    monkeypatch.setattr(
        "pika.data.encode_value",
        lambda pieces, value: pieces.append(value) or len(value) if isinstance(value, bytes) else encode(pieces, value),
    )
    with sender.node.connect() as connection:
        channel = connection.channel()
        for raw in (beyond_time, nested, huge_number):
            channel.basic_publish("", TOPIC, b"{}", pika.BasicProperties(headers={"mine": raw}))
        channel.basic_publish("", TOPIC, b"{}", pika.BasicProperties(message_id=b"\xff\xfe"))
    monkeypatch.setattr("pika.data.encode_value", encode)
    payload_id = sender.send()
    wait_for(lambda: runs(site) == [("ct-lung", run_id_of(payload_id))])
    wait_for(lambda: len(site.events("message-refused")) == 4)
    reasons = [reason for reason, _ in sender.dead()]
    assert sum("headers that cannot be read" in reason for reason in reasons) == 2
    assert sum("no correlation_id" in reason for reason in reasons) == 2
    assert len(site.events("broker-connected")) == 1, "the connection was never lost"
    assert settled(sender)


def test_files_may_come_a_little_after_their_request(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    start()
    payload_id = str(uuid.uuid4())
    sender.publish(sender.event(payload_id))
    site.wait_for_event("message-waiting")
    assert not site.files()
    sender.files(payload_id)
    wait_for(lambda: runs(site))
    assert len(load_payload(site.store, payload_id).files) == 2


def test_files_that_never_come_are_told(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    start(files_seconds=1.0)
    sender.publish(sender.event(str(uuid.uuid4()), file_count=7))
    ((reason, _),) = wait_for(sender.dead)
    assert reason == "7 of 7 files of the payload are not in the bucket."


def test_a_damaged_image_spoils_the_request_and_leaves_nothing(
    site: Site, sender: Sender, start: Callable[..., Gateway]
) -> None:
    start()
    payload_id = str(uuid.uuid4())
    first, _ = sender.files(payload_id)
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) - 40])
    sender.publish(sender.event(payload_id))
    ((reason, body),) = wait_for(sender.dead)
    assert reason.startswith("1 of 2 files cannot be used: it breaks off")
    assert not list(site.store.children("payloads")) and not runs(site)
    first.write_bytes(whole)  # mended, and the dead letter published again
    sender.publish(body)
    wait_for(lambda: runs(site) == [("ct-lung", run_id_of(payload_id))])


def test_one_payload_id_stands_for_one_request(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    start()
    payload_id = sender.send()
    wait_for(lambda: runs(site))
    other = {"dataService": 1, "source": "MR02", "destination": "CTLUNG"}
    sender.publish(sender.event(payload_id, trigger=other))
    ((reason, _),) = wait_for(sender.dead)
    assert "was asked for before with another sender" in reason
    assert len(runs(site)) == 1


def test_requests_that_bring_results_of_a_task_are_passed_over(
    site: Site, sender: Sender, start: Callable[..., Gateway]
) -> None:
    start()
    sender.send(workflow_instance_id="w", task_id="t")
    payload_id = sender.send()
    wait_for(lambda: runs(site))
    wait_for(lambda: settled(sender))
    assert runs(site) == [("ct-lung", run_id_of(payload_id))] and not sender.dead()


def test_the_first_draft_names_its_files(site: Site, sender: Sender, start: Callable[..., Gateway]) -> None:
    start()
    payload_id = str(uuid.uuid4())
    one, other = sender.files(payload_id)
    files = [f"s3://monaideploy/{one.relative_to(sender.bucket)}", f"/{other.relative_to(sender.bucket)}"]
    draft = {"Transaction ID": payload_id, "Correlation ID": "a-1", "Files": files, "Workflows": ["ct-lung"]}
    sender.publish(draft, DRAFT)
    wait_for(lambda: runs(site))
    assert len(load_payload(site.store, payload_id).files) == 2
    sender.publish({**draft, "Transaction ID": "x", "Files": ["../../etc/passwd"]}, DRAFT)
    ((reason, _),) = wait_for(lambda: sender.dead(DRAFT))
    assert reason == "A file of the message is no path in a bucket."


def test_several_studies_of_one_request_are_one_payload(
    site: Site, sender: Sender, start: Callable[..., Gateway]
) -> None:
    start()
    payload_id = str(uuid.uuid4())
    sender.files(payload_id)
    for number, path in enumerate(make_images(sender.folder / "more", 2, rows=8)):
        shutil.move(path, sender.bucket / payload_id / "dcm" / f"other{number}.dcm")
    sender.publish(sender.event(payload_id, file_count=4))
    wait_for(lambda: runs(site))
    payload = load_payload(site.store, payload_id)
    assert len(payload.files) == 4 and len(payload.studies) == 2


def test_a_full_disk_holds_requests_back_and_they_go_on_by_themselves(
    site: Site, sender: Sender, start: Callable[..., Gateway]
) -> None:
    gateway = start()
    (way,) = [way for way in gateway._ways if isinstance(way, BrokerWay)]
    refusal: list[str | None] = ["91 % of the disk is used, more than the 85 % of [monai] disk_used_percent"]
    guard = way._parts.guard
    assert guard is not None
    guard.refusal = lambda: refusal[0]  # type: ignore[method-assign]
    payload_id = sender.send()
    (event,) = site.wait_for_event("message-waiting")
    assert event["reason"] == refusal[0]
    assert not list(site.store.children("payloads"))
    refusal[0] = None
    wait_for(lambda: runs(site) == [("ct-lung", run_id_of(payload_id))])
    assert not sender.dead()


def test_a_message_that_nobody_can_handle_does_not_go_round_for_ever(
    site: Site, sender: Sender, start: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_monai.gateway import broker as module

    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    gateway = start()
    (way,) = [way for way in gateway._ways if isinstance(way, BrokerWay)]

    def broken(asked: Any) -> None:
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr(way._requests, "take", broken)
    sender.send()
    ((reason, _),) = wait_for(sender.dead)
    assert reason == "internal error: ZeroDivisionError, 5 times."


def test_a_gateway_is_there_before_its_broker(
    site: Site, sender: Sender, start: Callable[..., Gateway], request: pytest.FixtureRequest
) -> None:
    node = sender.node
    node.kill()
    request.addfinalizer(lambda: node.process and node.process.poll() is not None and node.start())
    broker = open_broker(node.address(sender.exchange))
    way: list[Any] = []

    def make(parts: GatewayParts) -> BrokerWay:
        way.append(BrokerWay(parts, broker, Buckets({"monaideploy": str(sender.bucket)}), topics=(TOPIC,)))
        return way[0]

    options = GatewayOptions(str(site.workflows), "127.0.0.1", 0, 0.5, site.events_file)
    gateway = Gateway(site.store, options, AirflowEngine(AirflowApi("monai_airflow")), [make])
    gateway.start()
    site._gateways.append(gateway)
    (lost,) = site.wait_for_event("broker-lost")
    assert "cannot be reached" in lost["reason"] and "guest" not in json.dumps(lost)
    node.start()
    site.wait_for_event("broker-connected", seconds=60)
    payload_id = sender.send()
    wait_for(lambda: runs(site) == [("ct-lung", run_id_of(payload_id))])


def test_two_different_requests_at_one_moment_are_not_mixed(
    site: Site, sender: Sender, start: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_monai.gateway import requests as module

    real, looked = module.request_of, []

    def not_yet(store: Any, payload_id: str) -> Any:
        """The first look of a request comes before the other one has written anything."""
        looked.append(payload_id)
        return None if len(looked) == 1 else real(store, payload_id)

    gateway = start()
    (way,) = [way for way in gateway._ways if isinstance(way, BrokerWay)]
    payload_id = str(uuid.uuid4())
    sender.files(payload_id)
    other = PayloadRequest("CTLUNG", ("MR02",), "monaideploy", (), str(uuid.uuid4()))
    site.store.write_json(f"payloads/{payload_id}/request.json", other.to_dict())
    monkeypatch.setattr(module, "request_of", not_yet)
    with pytest.raises(InvalidEvent, match="was asked for before with another sender"):
        way._requests.take(Asked(payload_id, "CTLUNG", ("CT01",), "monaideploy", (), str(uuid.uuid4())))
    assert not site.files() and real(site.store, payload_id) == other


def test_bucket_and_store_may_be_in_s3(
    site: Site,
    sender: Sender,
    s3: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE_CONN_ID", "monai_store")
    monkeypatch.setenv("AIRFLOW__MONAI__SPOOL_FOLDER", str(tmp_path / "spool"))
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_STORE", s3.connection)
    store, bucket = s3.store(tmp_path / "ours"), s3.bucket()
    broker = open_broker(sender.node.address(sender.exchange))

    def way(parts: GatewayParts) -> BrokerWay:
        return BrokerWay(parts, broker, Buckets({"monaideploy": f"s3://{bucket}"}), topics=(TOPIC,))

    options = GatewayOptions(str(site.workflows), "127.0.0.1", 0, 0.5, site.events_file)
    gateway = Gateway(store, options, AirflowEngine(AirflowApi("monai_airflow")), [way])
    gateway.start()
    site._gateways.append(gateway)
    site.wait_for_event("broker-connected")
    payload_id = str(uuid.uuid4())
    for path in sender.files(payload_id, 3):
        s3.client().upload_file(str(path), bucket, path.relative_to(sender.bucket).as_posix())
    for _ in range(3):
        sender.publish(sender.event(payload_id, file_count=3))
    wait_for(lambda: runs(site) == [("ct-lung", run_id_of(payload_id))])
    assert len(load_payload(store, payload_id).files) == 3
    stop_when_done(site, sender, gateway)
    assert not sender.dead() and not list(store.children("pending"))
    assert history_of(store, payload_id).summary.state == "closed"
