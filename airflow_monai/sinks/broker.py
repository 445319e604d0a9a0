"""Deliver by a gateway elsewhere: it is asked by a message (``md.export.request.<agent>``), and answers by another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from airflow_monai.broker.base import BrokerAddress, Message, message_of, open_broker
from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import ExportRequestEvent
from airflow_monai.broker.events.topics import EXPORT_REQUEST
from airflow_monai.broker.outbox import Outbox
from airflow_monai.errors import BrokerError, BrokerUnavailable, InvalidEvent, SinkUnavailable
from airflow_monai.sinks.asked import AskedSink, Round
from airflow_monai.sinks.base import Destination, Instance
from airflow_monai.sinks.order import ExportOrder


class BrokerSink(AskedSink):
    """Asks a gateway elsewhere to send the instances.

    The connection is the broker's own (host, port, login, password, virtual host, and extras as ``monai_rabbitmq``
    has them), with more extras: ``agent``, behind ``md.export.request.``; ``destinations``, the names that the far
    gateway knows, by default that of the connection; ``bucket``, the far gateway's, a name of [monai] broker_buckets,
    empty where the store itself lies in it; ``wait``, false to be content with having asked; ``wait_minutes``, how
    long one try waits for the answer; ``any_file``, to send files that are not DICOM, too.
    """

    def __init__(self, destination: Destination):
        super().__init__(destination)
        self.agent = destination.text("agent")
        if not self.agent:
            raise destination.error("it names no agent, such as monaiscu")
        names = destination.text("destinations", default=destination.name)
        self.names = tuple(name.strip() for name in names.split(",") if name.strip())
        self.topic = self.asks_by = f"{EXPORT_REQUEST}.{self.agent}"
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

    def test(self) -> str:
        try:
            return f"{self._broker.test()} Exports go out as {self.topic}."
        except BrokerUnavailable as error:
            raise SinkUnavailable(str(error)) from None
        except BrokerError as error:
            raise self.destination.error(str(error).rstrip(".")) from None

    def place(self, order: ExportOrder, instances: Sequence[Instance]) -> Mapping[str, str]:
        from airflow_monai import settings

        try:
            outbox = Outbox(order.store, self._bucket, Buckets(settings.load_broker().buckets))
        except InvalidEvent as error:
            raise self.destination.error(str(error).rstrip(".")) from None
        files = {}
        for instance in instances:
            self.deadline.check()
            files[outbox.path_of(instance.key, instance.path, instance.name, self._take)] = self.identity(instance)
        return files

    def _take(self, size: int) -> None:
        if self.throttle is not None:
            self.throttle.take(size)

    def request(self, order: ExportOrder, rounds: Sequence[Round]) -> Iterator[Round]:
        try:
            with self._broker.publisher() as publisher:
                for round_ in rounds:
                    publisher.publish(self._message(order, round_))
                    yield round_
        except BrokerUnavailable as error:
            raise SinkUnavailable(str(error)) from None
        except BrokerError as error:
            raise self.destination.error(str(error).rstrip(".")) from None

    def _message(self, order: ExportOrder, round_: Round) -> Message:
        message_id, correlation_id = order.task_guid(round_.name, "message"), order.correlation_id
        instance_id, task_id = self.ids(order, round_)
        event = ExportRequestEvent(
            workflow_instance_id=instance_id,
            export_task_id=task_id,
            correlation_id=correlation_id,
            files=tuple(round_.files),
            destinations=self.names,
            message_id=message_id,
            payload_id=order.folder.payload_id,
        )
        return message_of(self.topic, event, correlation_id=correlation_id, message_id=message_id)
