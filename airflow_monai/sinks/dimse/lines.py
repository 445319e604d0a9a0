"""The associations over which a DICOM sink sends, one or several at a time; each instance is on one of them only."""

from __future__ import annotations

import io
import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from airflow_monai.errors import DeadlinePassed, DestinationError, ExportError, SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Instance, OnResult
from airflow_monai.sinks.dimse.association import Association, AssociationLost, Peer, associate
from airflow_monai.sinks.dimse.conversion import NotConvertible, converted
from airflow_monai.sinks.dimse.status import judge
from airflow_monai.sinks.part10 import seek_dataset

if TYPE_CHECKING:
    from airflow_monai.sinks.dicom import DicomSink

log = logging.getLogger(__name__)

TRIES = 3
"""How often one instance is sent within a task, and one association is asked for unless the sink says otherwise."""
SETBACKS = 5
"""After so many failures in a row, with no answer between them, the far side counts as unavailable."""
PAUSES = (1.0, 2.0, 4.0)
"""Seconds to wait before trying again."""


class Sending:
    """One delivery of instances that fit on one association: what its lines share.

    :param batch: in the order of sending.
    """

    def __init__(self, sink: DicomSink, batch: Sequence[Instance], on_result: OnResult):
        self.sink = sink
        self.on_result = on_result
        self.syntaxes = [pair for instance in batch for pair in sink.syntaxes_of(instance)]
        self.connected = 0  # lines with an association
        self._waiting = deque(batch)
        self._lines = min(sink.associations, len(batch))
        self._lock = threading.Lock()
        self._first = threading.Event()  # a line has got its association, or has ended without
        self._setbacks = 0
        self._ended = False
        self._may_ask = True

    def run(self) -> None:
        """Send all; raises what ended it before that."""
        if self._lines > 1:
            self._run_lines()
        while self._waiting and not self._ended:  # one line, or what a line that got no association has left behind
            self._run_line()

    def _run_lines(self) -> None:
        with ThreadPoolExecutor(self._lines, thread_name_prefix="association") as pool:
            running = [pool.submit(self._run_line)]
            try:
                self._first.wait()  # the others find out by that whether the far side wants them too
                running += [pool.submit(self._run_line) for _ in range(self._lines - 1)]
                errors = [error for line in running if (error := line.exception())]
            except BaseException:  # this thread was told to stop
                self._ended = True
                raise
        for error in sorted(errors, key=lambda error: isinstance(error, SinkUnavailable)):
            raise error  # what ended the sending from our side says more than that the far side failed

    def _run_line(self) -> None:
        try:
            with _Line(self) as line:
                while (instance := self.take()) is not None:
                    if not line.deliver(instance):
                        return
        except BaseException:
            self._ended = True  # the other lines end after the instance that they have
            raise
        finally:
            self._first.set()

    def connect(self, by: int) -> None:
        with self._lock:
            self.connected += by
        self._first.set()

    def take(self) -> Instance | None:
        """The next instance, None when none is left or the sending is over."""
        with self._lock:
            return self._waiting.popleft() if self._waiting and not self._ended else None

    def put_back(self, instance: Instance) -> None:
        with self._lock:
            self._waiting.appendleft(instance)

    def count_setback(self, verdict: Delivery) -> None:
        """:class:`SinkUnavailable` when the far side does not get on with anything any more."""
        with self._lock:
            self._setbacks += 1
            most = SETBACKS + self._lines - 1
            if self._setbacks >= most:
                raise SinkUnavailable(
                    f"{self.sink.peer} did not accept anything in {most} attempts in a row; the last: "
                    f"{verdict.message}."
                )

    def count_answer(self) -> None:
        self._setbacks = 0

    def ask(self, instance: Instance) -> bool:
        """Whether the far side says that it has what it did not answer."""
        if not self._may_ask:
            return False
        try:
            found = self.sink.ask([instance])
        except (SinkUnavailable, DeadlinePassed) as error:
            log.warning("%s", error)
            found = None
        self._may_ask = found is not None
        return bool(found and found.get(str(instance.sop_instance_uid)))


class _Line:
    """One association after the other, over which instances are sent."""

    def __init__(self, sending: Sending):
        self._sending = sending
        self._sink = sending.sink
        self._association: Association | None = None

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._association is None:
            return
        if kind is None:
            self._association.release()
        else:
            self._association.abort()
        self._lost()

    def deliver(self, instance: Instance) -> bool:
        """Send the instance until there is a verdict, at most :data:`TRIES` times, and report each outcome.

        :return: False when this line got no association and leaves the instance to the others.
        :raises SinkUnavailable: the far side did not get on with this nor with earlier instances.
        """
        for pause in (*PAUSES[: TRIES - 1], None):
            if not self._is_associated():
                self._sending.put_back(instance)
                return False
            verdict = self._once(instance)
            self._sending.on_result(verdict)
            if not verdict.retry:
                self._sending.count_answer()
                return True
            self._sending.count_setback(verdict)
            if pause is not None:
                log.warning("%s; trying again in %g s", verdict.message, pause)
                self._sink.deadline.pause(pause)
        return True

    def _once(self, instance: Instance) -> Delivery:
        assert self._association is not None
        identity, association = str(instance.sop_instance_uid), self._association
        syntax = next((pair[1] for pair in self._sink.syntaxes_of(instance) if pair in association.contexts), None)
        if syntax is None:
            return _not_wanted(instance, self._sink.peer)
        try:
            dataset = _dataset(instance, syntax)
        except NotConvertible as error:
            return _not_wanted(instance, self._sink.peer, str(error))
        with dataset:
            self._sending.on_result(Delivery(identity, DeliveryState.SENT))
            try:
                answer = association.store(instance.sop_class_uid, identity, syntax, dataset)
            except AssociationLost as error:
                self._lost()
                unknown = Delivery(identity, DeliveryState.UNKNOWN, message=str(error), retry=True)
                return self._unanswered(instance, unknown)
        return judge(identity, answer)

    def _unanswered(self, instance: Instance, unknown: Delivery) -> Delivery:
        if not self._sending.ask(instance):
            return unknown
        message = "not answered, but it is there when asked for"
        return replace(unknown, state=DeliveryState.ACCEPTED, message=message, retry=False, verified=True)

    def _lost(self) -> None:
        self._association = None
        self._sending.connect(-1)

    def _is_associated(self) -> bool:
        """Whether there is an association, if need be a new one; asked for several times while the far side is busy.

        A far side that takes no more associations than it has gets on with those.
        """
        for pause in (*PAUSES[: self._sink.calls - 1], None):
            if self._association is not None:
                return True
            sending = self._sending
            try:
                self._association = associate(
                    self._sink.peer, sending.syntaxes, self._sink.deadline, self._sink.throttle
                )
                sending.connect(1)
            except (SinkUnavailable, DestinationError) as error:
                if sending.connected > 0:
                    log.info("%s Going on with %d associations.", error, sending.connected)
                    return False
                if pause is None or isinstance(error, DestinationError):
                    raise
                log.warning("%s Trying again in %g s.", error, pause)
                self._sink.deadline.pause(pause)
        return True


def _not_wanted(instance: Instance, peer: Peer, problem: str = "") -> Delivery:
    from pydicom.uid import UID

    sop_class, syntax = UID(instance.sop_class_uid).name, UID(instance.transfer_syntax_uid).name
    advice = ": allow this SOP class and transfer syntax there"
    if problem:
        advice = f", only in one that this image cannot be put into: {problem}"
    return Delivery(
        str(instance.sop_instance_uid),
        DeliveryState.REFUSED,
        message=f"{peer} does not take {sop_class} in {syntax}{advice}",
    )


def _dataset(instance: Instance, syntax: str) -> BinaryIO:
    """The instance's data set in that transfer syntax, positioned at its first byte.

    :raises NotConvertible: when it cannot be put into that one.
    :raises ExportError: when the file cannot be read.
    """
    try:
        if syntax == instance.transfer_syntax_uid:
            return seek_dataset(open(instance.path, "rb", buffering=0))
        return io.BytesIO(converted(instance.path, instance.transfer_syntax_uid, syntax))
    except OSError as error:
        raise ExportError(f"A file to be sent cannot be read ({error.strerror or error}).") from error
