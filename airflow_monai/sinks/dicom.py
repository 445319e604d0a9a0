"""C-STORE to a DICOM node (PS3.4 annex B), with a verdict on every instance."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from airflow_monai.errors import ExportError, SinkUnavailable
from airflow_monai.sinks.base import Delivery, DeliveryState, Destination, Instance, OnResult, Sink
from airflow_monai.sinks.dicom_status import judge
from airflow_monai.sinks.dimse import MAX_CONTEXTS, Association, AssociationLost, Peer, associate
from airflow_monai.sinks.part10 import as_implicit, seek_dataset

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
VERIFICATION = "1.2.840.10008.1.1"

TRIES = 3
"""How often one instance is sent within a task, and one association is attempted."""
SETBACKS = 5
"""After so many failures in a row, with no answer between them, the far side counts as unavailable."""
PAUSES = (1.0, 2.0, 4.0)
"""Seconds to wait before trying again."""


class DicomSink(Sink):
    """Sends to a DICOM node.

    The connection holds ``host`` and ``port``; its extras ``called_aet`` (default ANY-SCP), ``calling_aet`` (MONAI),
    ``connect_timeout`` (10 s) and ``response_timeout`` (30 s without any progress).
    """

    dicom_only = True

    def __init__(self, destination: Destination):
        super().__init__(destination)
        self.peer = peer_of(destination)

    def identity(self, instance: Instance) -> str:
        return str(instance.sop_instance_uid)

    def send(self, instances: Sequence[Instance], on_result: OnResult) -> None:
        for batch in batches(instances):
            with _Sender(self.peer, batch, on_result) as sender:
                for instance in batch:
                    sender.deliver(instance)

    def test(self) -> str:
        association = associate(self.peer, [(VERIFICATION, IMPLICIT_LITTLE)])
        if not association.contexts:
            association.release()
            return f"{self.peer} accepts associations of {self.peer.calling_aet}, but does not do C-ECHO."
        answer = association.echo()
        association.release()
        if answer.status:
            raise ExportError(f"{self.peer} answered C-ECHO with status {answer.status:04X}.")
        return f"{self.peer} answered C-ECHO to {self.peer.calling_aet}."


def peer_of(destination: Destination) -> Peer:
    """The node that a connection of type ``dicom`` names; :class:`DestinationError` when it is not complete."""
    if not destination.host:
        raise destination.error("the connection has no host")
    if not destination.port or not 0 < destination.port < 65_536:
        raise destination.error("the connection has no port (DICOM nodes often listen on 104 or 11112)")
    return Peer(
        host=destination.host,
        port=destination.port,
        called_aet=_ae_title(destination, "called", "ANY-SCP"),
        calling_aet=_ae_title(destination, "calling", "MONAI"),
        connect_timeout=destination.seconds("connect_timeout", 10.0),
        response_timeout=destination.seconds("response_timeout", 30.0),
    )


def _ae_title(destination: Destination, which: str, default: str) -> str:
    """An AE title: up to 16 characters of the default repertoire without backslash (PS3.5 section 6.2, VR AE)."""
    title = destination.text(f"{which}_aet", f"{which}_ae_title", default=default)
    if len(title) > 16 or "\\" in title or not (title.isascii() and title.isprintable()):
        raise destination.error(f"{which}_aet {title!r} is no AE title: at most 16 plain characters")
    return title


def syntaxes_of(instance: Instance) -> list[tuple[str, str]]:
    """The presentation contexts to propose for an instance: its own, and the default transfer syntax where that can
    stand for it without touching the pixels (PS3.5 section 10.1)."""
    own = (instance.sop_class_uid, instance.transfer_syntax_uid)
    if instance.transfer_syntax_uid == EXPLICIT_LITTLE:
        return [own, (instance.sop_class_uid, IMPLICIT_LITTLE)]
    return [own]


def batches(instances: Sequence[Instance]) -> Iterator[list[Instance]]:
    """The instances in order, in runs that one association has enough presentation contexts for."""
    batch: list[Instance] = []
    contexts: set[tuple[str, str]] = set()
    for instance in instances:
        wanted = contexts.union(syntaxes_of(instance))
        if len(wanted) > MAX_CONTEXTS:
            yield batch
            batch, wanted = [], set(syntaxes_of(instance))
        batch.append(instance)
        contexts = wanted
    if batch:
        yield batch


class _Sender:
    """Sends the instances of one batch, over a new association whenever one was lost."""

    def __init__(self, peer: Peer, batch: Sequence[Instance], on_result: OnResult):
        self._peer = peer
        self._syntaxes = [pair for instance in batch for pair in syntaxes_of(instance)]
        self._on_result = on_result
        self._association: Association | None = None
        self._setbacks = 0

    def __enter__(self) -> _Sender:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._association is None:
            return
        if kind is None:
            self._association.release()
        else:
            self._association.abort()

    def deliver(self, instance: Instance) -> None:
        """Send the instance until there is a verdict, at most :data:`TRIES` times, and report each outcome.

        :raises SinkUnavailable: the far side did not get on with this nor with earlier instances.
        """
        for pause in (*PAUSES[: TRIES - 1], None):
            verdict = self._once(instance)
            self._on_result(verdict)
            if not verdict.retry:
                self._setbacks = 0
                return
            self._count_setback(verdict)
            if pause is not None:
                log.warning("%s; trying again in %g s", verdict.message, pause)
                time.sleep(pause)

    def _count_setback(self, verdict: Delivery) -> None:
        self._setbacks += 1
        if self._setbacks >= SETBACKS:
            raise SinkUnavailable(
                f"{self._peer} did not accept anything in {SETBACKS} attempts in a row; the last: {verdict.message}."
            )

    def _once(self, instance: Instance) -> Delivery:
        association = self._associated()
        identity = str(instance.sop_instance_uid)
        syntax = next((pair[1] for pair in syntaxes_of(instance) if pair in association.contexts), None)
        if syntax is None:
            return _not_wanted(instance, self._peer)
        with _dataset(instance.path, syntax != instance.transfer_syntax_uid) as dataset:
            self._on_result(Delivery(identity, DeliveryState.SENT))
            try:
                answer = association.store(instance.sop_class_uid, identity, syntax, dataset)
            except AssociationLost as error:
                self._association = None
                return Delivery(identity, DeliveryState.UNKNOWN, message=str(error), retry=True)
        return judge(identity, answer)

    def _associated(self) -> Association:
        """The association, or a new one; tried :data:`TRIES` times while the far side is not there or busy."""
        if self._association is not None:
            return self._association
        for pause in PAUSES[: TRIES - 1]:
            try:
                self._association = associate(self._peer, self._syntaxes)
                return self._association
            except SinkUnavailable as error:
                log.warning("%s Trying again in %g s", error, pause)
                time.sleep(pause)
        self._association = associate(self._peer, self._syntaxes)
        return self._association


def _not_wanted(instance: Instance, peer: Peer) -> Delivery:
    from pydicom.uid import UID

    sop_class, syntax = UID(instance.sop_class_uid).name, UID(instance.transfer_syntax_uid).name
    return Delivery(
        str(instance.sop_instance_uid),
        DeliveryState.REFUSED,
        message=f"{peer} does not take {sop_class} in {syntax}: allow this SOP class and transfer syntax there",
    )


def _dataset(path: Path, implicit: bool) -> BinaryIO:
    """The file's data set, positioned at its first byte."""
    try:
        return io.BytesIO(as_implicit(path)) if implicit else seek_dataset(open(path, "rb"))
    except OSError as error:
        raise ExportError(f"A file to be sent cannot be read ({error.strerror or error}).") from error
    except ExportError as error:
        raise ExportError(f"A file to be sent cannot be put into the far side's transfer syntax: {error}.") from None
