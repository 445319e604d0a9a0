"""Deliver by a gateway elsewhere: it is asked by a message (``md.export.request.<agent>``), and answers by another.

An export task asks in rounds. What a round asks for is in the store before it is published, under ids that follow from
the task and the round, so that a try after a crash publishes the same message again, or none when it knows that it was
published. The next round begins when the task has heard of the one before, and asks for what was missing then.

    .../<task>/g<N>.export-<sink>-<round>.json             what was asked for: path in the bucket -> identity
    .../<task>/g<N>.export-<sink>-<round>-published.json   the broker has it
    .../<task>/g<N>.export-<sink>-<round>-answer.json      what became of it, from a gateway of ours
    .../<task>/g<N>.export-<sink>-<round>-told.json        the export task has heard it
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_monai.broker.base import BrokerAddress, message_of, open_broker
from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import ExportRequestEvent, ExportStatus, FileExportStatus
from airflow_monai.broker.events.topics import EXPORT_REQUEST
from airflow_monai.broker.outbox import Outbox
from airflow_monai.errors import BrokerError, BrokerUnavailable, InvalidEvent, SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, OnResult, Sink
from airflow_monai.sinks.order import ExportOrder
from airflow_monai.store.answers import AnswerKind, Awaited, await_answer
from airflow_monai.store.base import safe_name

POLL_SECONDS = 1.0
_FINAL = (FileExportStatus.CONFIGURATION_ERROR, FileExportStatus.UNSUPPORTED_DATA_TYPE)
"""What another attempt would not change."""


@dataclass(frozen=True, slots=True)
class Round:
    """One request.

    :param files: path in the bucket -> identity of the instance.
    """

    number: int
    name: str
    files: Mapping[str, str]


class BrokerSink(Sink):
    """Asks a gateway elsewhere to send the instances.

    The connection is the broker's own (host, port, login, password, virtual host, and extras as ``monai_rabbitmq``
    has them), with more extras: ``agent``, behind ``md.export.request.``; ``destinations``, the names that the far
    gateway knows, by default that of the connection; ``bucket``, the far gateway's, a name of [monai] broker_buckets,
    empty where the store itself lies in it; ``wait``, false to be content with having asked; ``wait_minutes``, how
    long one try waits for the answer; ``any_file``, to send files that are not DICOM, too.
    """

    verifications = ("none",)
    leads_to_dicom = True

    def __init__(self, destination: Destination):
        super().__init__(destination)
        self.agent = destination.text("agent")
        if not self.agent:
            raise destination.error("it names no agent, such as monaiscu")
        self.dicom_only = not destination.flag("any_file")
        names = destination.text("destinations", default=destination.name)
        self.names = tuple(name.strip() for name in names.split(",") if name.strip())
        self.waits = destination.flag("wait", True)
        self.wait_seconds = destination.number("wait_minutes", 30, 0.01, 10_000) * 60
        self.topic = f"{EXPORT_REQUEST}.{self.agent}"
        self._bucket = destination.text("bucket")
        self._broker = open_broker(
            BrokerAddress(
                name=destination.name,
                kind="monai_rabbitmq",
                host=destination.host,
                port=destination.port,
                login=destination.login,
                password=destination.password,
                path=destination.schema,
                extra=destination.extra,
            )
        )

    def identity(self, instance: Instance) -> str:
        return instance.sop_instance_uid or safe_name(instance.name)

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        order = self.order
        if order is None:
            raise self.destination.error("only an export task can deliver by a broker, since the answer comes later")
        missing = {self.identity(instance): instance for instance in instances}
        asked = [round_ for round_ in self._rounds(order) if self._is_open(order, round_)]
        covered = {identity for round_ in asked for identity in round_.files.values()}
        new = [instance for identity, instance in missing.items() if identity not in covered]
        if new:
            asked.append(self._begun(order, new))
        for identity in missing:
            on_result(Delivery(identity, DeliveryState.SENT))
        self._publish(order, asked)
        for round_ in asked:
            wanted = [identity for identity in round_.files.values() if identity in missing]
            for delivery in self._verdicts(order, round_, wanted):
                on_result(delivery)
            order.store.write_json(order.note_key(f"{round_.name}-told"), {"time": time.time()})

    def test(self) -> str:
        try:
            return f"{self._broker.test()} Exports go out as {self.topic}."
        except BrokerUnavailable as error:
            raise SinkUnavailable(str(error)) from None
        except BrokerError as error:
            raise self.destination.error(str(error).rstrip(".")) from None

    def _rounds(self, order: ExportOrder) -> Iterator[Round]:
        """What this generation of the task has asked for so far."""
        number = 1
        while order.store.exists(order.note_key(self._name(number))):
            files = order.store.read_json(order.note_key(self._name(number)))["files"]
            yield Round(number, self._name(number), files)
            number += 1

    def _name(self, number: int) -> str:
        return f"export-{safe_name(self.destination.name)}-{number}"

    def _is_open(self, order: ExportOrder, round_: Round) -> bool:
        """Whether the task has not heard yet what became of it."""
        return not order.store.exists(order.note_key(f"{round_.name}-told"))

    def _begun(self, order: ExportOrder, instances: Sequence[Instance]) -> Round:
        """A new round, with its files in the bucket."""
        from airflow_monai import settings

        number = 1 + sum(1 for _ in self._rounds(order))
        try:
            outbox = Outbox(order.store, self._bucket, Buckets(settings.load_broker().buckets))
        except InvalidEvent as error:
            raise self.destination.error(str(error).rstrip(".")) from None
        files = {}
        for instance in instances:
            self.deadline.check()
            files[outbox.path_of(instance.key, instance.path, instance.name, self._take)] = self.identity(instance)
        round_ = Round(number, self._name(number), files)
        order.store.write_json(order.note_key(round_.name), {"files": files})
        return round_

    def _take(self, size: int) -> None:
        if self.throttle is not None:
            self.throttle.take(size)

    def _publish(self, order: ExportOrder, rounds: Sequence[Round]) -> None:
        """Publish what is not published yet."""
        store = order.store
        new = [item for item in rounds if not store.exists(order.note_key(f"{item.name}-published"))]
        if not new:
            return
        try:
            with self._broker.publisher() as publisher:
                for round_ in new:
                    ids = (order.workflow_instance_id, order.task_guid(round_.name))
                    if self.waits:
                        answer = Awaited(order.waiting(f"{round_.name}-answer"))
                        await_answer(store, AnswerKind.EXPORT, ids, answer)
                    publisher.publish(self._message(order, round_))
                    store.write_json(order.note_key(f"{round_.name}-published"), {"time": time.time()})
        except BrokerUnavailable as error:
            raise SinkUnavailable(str(error)) from None
        except BrokerError as error:
            raise self.destination.error(str(error).rstrip(".")) from None

    def _message(self, order: ExportOrder, round_: Round) -> Any:
        message_id, correlation_id = order.task_guid(round_.name, "message"), order.correlation_id
        event = ExportRequestEvent(
            workflow_instance_id=order.workflow_instance_id,
            export_task_id=order.task_guid(round_.name),
            correlation_id=correlation_id,
            files=tuple(round_.files),
            destinations=self.names,
            message_id=message_id,
            payload_id=order.folder.payload_id,
        )
        return message_of(self.topic, event, correlation_id=correlation_id, message_id=message_id)

    def _verdicts(self, order: ExportOrder, round_: Round, wanted: Sequence[str]) -> Iterator[Delivery]:
        """What became of the instances of a round."""
        if not self.waits:
            for identity in wanted:
                yield Delivery(identity, DeliveryState.ACCEPTED, message="asked for; no answer is waited for")
            return
        answer = self._answer(order, round_)
        paths = {identity: path for path, identity in round_.files.items()}
        for identity in wanted:
            yield _verdict(identity, paths[identity], answer)

    def _answer(self, order: ExportOrder, round_: Round) -> Mapping[str, Any]:
        """The answer, once it is in the store.

        :raises SinkUnavailable: when it does not come in time; another try goes on waiting for it.
        """
        key = order.note_key(f"{round_.name}-answer")
        end = time.monotonic() + self.wait_seconds
        while not order.store.exists(key):
            if time.monotonic() > end:
                raise SinkUnavailable(
                    f"{self.destination.name}: no answer to {self.topic} came within {self.wait_seconds / 60:g} "
                    "minutes. Another try waits on, and asks for nothing twice."
                )
            self.deadline.pause(POLL_SECONDS)
        return order.store.read_json(key)["body"]


def _verdict(identity: str, path: str, answer: Mapping[str, Any]) -> Delivery:
    """What an answer says of one file."""
    whole = ExportStatus(answer["status"])
    comment = str(answer.get("message") or "")
    said = answer["files"].get(path) or answer["files"].get(path.lstrip("/"))
    if said is None:
        if whole is ExportStatus.SUCCESS:
            return Delivery(identity, DeliveryState.ACCEPTED, message="the gateway has exported all")
        state = DeliveryState.REFUSED if whole is ExportStatus.FAILURE else DeliveryState.UNKNOWN
        message = f"the gateway says {whole.value}, and nothing of this file"
        return Delivery(identity, state, message=message, comment=comment, retry=True)
    status = FileExportStatus(said)
    if status is FileExportStatus.SUCCESS:
        return Delivery(identity, DeliveryState.ACCEPTED, message="the gateway has exported it")
    message = f"the gateway says {status.value}"
    return Delivery(identity, DeliveryState.REFUSED, message=message, comment=comment, retry=status not in _FINAL)
