"""HL7 v2 messages over MLLP, each with the receiver's own acknowledgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from airflow_monai.errors import SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, OnResult, Sink
from airflow_monai.sinks.crew import Crew
from airflow_monai.sinks.files import digest_of, unreadable
from airflow_monai.sinks.hl7_message import MAX_BYTES, Message, NoMessage, read_message
from airflow_monai.sinks.mllp import AnswerLost, Line, Listener
from airflow_monai.sinks.tls import context_of


class MllpSink(Sink):
    """Sends files that hold one HL7 v2 message each, one after the other over one connection.

    The connection holds host and port. Extras: ``tls`` (false) and those of
    :func:`airflow_monai.sinks.tls.context_of`, ``connect_timeout`` (10 s), ``response_timeout`` (30 s for an
    acknowledgement).

    AA and CA are acceptances. A message that was never acknowledged is sent again as it is: with the same message
    control id (MSH-10), by which a receiver knows a duplicate (HL7 v2.5.1 section 2.10.1).
    """

    verifications = ("none",)

    def __init__(self, destination: Destination):
        super().__init__(destination)
        if not destination.host:
            raise destination.error("the connection has no host")
        if not destination.port or not 0 < destination.port < 65_536:
            raise destination.error("the connection has no port (MLLP listeners often listen on 2575)")
        self.listener = Listener(
            name=destination.name,
            host=destination.host,
            port=destination.port,
            connect_timeout=destination.seconds("connect_timeout", 10.0),
            response_timeout=destination.seconds("response_timeout", 30.0),
            tls=context_of(destination) if destination.flag("tls") else None,
        )

    def identity(self, instance: Instance) -> str:
        """The content's SHA-256: the same message is sent once, wherever it lies."""
        return instance.digest or digest_of(instance.path)

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        _Sending(self, instances, on_result).run()

    def test(self) -> str:
        Line(self.listener, self.deadline).close()
        how = "with TLS" if self.listener.tls else "without TLS"
        return f"{self.listener} takes connections {how}. Whether it takes messages is only seen when one is sent."


class _Sending(Crew):
    """One call of :meth:`MllpSink.send`, by one thread, because a listener may rely on the order of messages."""

    def __init__(self, sink: MllpSink, instances: Sequence[Instance], on_result: OnResult):
        super().__init__(sink, str(sink.listener), instances, on_result, 1)
        self._sink = sink
        self._line: Line | None = None
        found = (_message(one.path) for one in instances)
        self._ids = Counter(one.control_id for one in found if isinstance(one, Message))

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._hang_up()

    def next_batch(self) -> list[Instance]:
        return [self.left.popleft()] if self.left else []

    def deliver(self, batch: Sequence[Instance]) -> None:
        (instance,) = batch
        identity = self._sink.identity(instance)
        message = _message(instance.path)
        if isinstance(message, str):
            self.tell(Delivery(identity, DeliveryState.REFUSED, message=f"not sent: {message}"))
            return
        if self._ids[message.control_id] > 1:
            problem = "not sent: another message here has the same control id (MSH-10); give each its own"
            self.tell(Delivery(identity, DeliveryState.REFUSED, message=problem))
            return
        self.repeat(lambda: self._once(identity, message))

    def _once(self, identity: str, message: Message) -> Delivery:
        self.check()
        try:
            line = self._connected()
        except SinkUnavailable as error:
            return self.tell(Delivery(identity, DeliveryState.PENDING, message=str(error).rstrip("."), retry=True))
        self.piece(len(message.content))
        self.tell(Delivery(identity, DeliveryState.SENT))
        try:
            answer = line.ask(message)
        except AnswerLost as error:
            self._hang_up()
            return self.tell(Delivery(identity, DeliveryState.UNKNOWN, message=str(error), retry=True))
        state = DeliveryState.ACCEPTED if answer.accepted else DeliveryState.REFUSED
        retry = answer.is_temporary and not answer.accepted
        return self.tell(Delivery(identity, state, answer.status, answer.meaning, answer.words, retry))

    def _connected(self) -> Line:
        if self._line is not None and not self._line.is_open:
            self._hang_up()
        if self._line is None:
            self._line = Line(self._sink.listener, self.deadline)
        return self._line

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def _message(path: Path) -> Message | str:
    """The message in a file, or why it cannot be sent."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return f"it is larger than {MAX_BYTES >> 20} MiB"
        return read_message(path.read_bytes())
    except OSError as error:
        raise unreadable(error) from error
    except NoMessage as error:
        return str(error)
