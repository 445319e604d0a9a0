"""Receives images by C-STORE into the store (DICOM PS3.4 annex B)."""

from __future__ import annotations

import socket
import threading
import time

from airflow_monai.gateway.dicom.admission import Admission
from airflow_monai.gateway.dicom.association import CLOSED, Association, Ended
from airflow_monai.gateway.dicom.desk import StoreDesk
from airflow_monai.gateway.dicom.metrics import count_association
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.gateway.dicom.sop_classes import is_served
from airflow_monai.gateway.dicom.tls import ServerTls
from airflow_monai.gateway.dicom.transport import Acceptor, Doors
from airflow_monai.intake.events import EventKind, EventLog, log_internal
from airflow_monai.store.intake import OpenPayload

MIN_WAITING = 100
"""Connections that may be there without an association, at least."""


class Receiver:
    """The DICOM SCP: C-STORE and C-ECHO, with and without TLS.

    :param admission: decides which associations are taken.
    :param port: 0 for a free one; :attr:`port` tells which, and :attr:`tls_port` that of TLS; 0 where there is none.
    :param doors: to listen at, where they are open already.
    """

    name = "dicom"

    def __init__(
        self,
        desk: StoreDesk,
        admission: Admission,
        events: EventLog,
        host: str,
        port: int,
        options: DicomOptions = DicomOptions(),  # noqa: B008 - it is frozen
        doors: Doors | None = None,
    ):
        self._desk = desk
        self._admission = admission
        self._events = events
        self._host = host
        self._options = options
        self.port = port
        self.tls_port = options.tls_port or 0
        self._doors = doors
        self._acceptors: list[Acceptor] = []
        self._lock = threading.Lock()
        self._connections: dict[Association, None] = {}  # in the order of their coming

    def start(self) -> None:
        """Listen; :class:`OSError` when a port is taken, :class:`SettingsError` when TLS cannot be had."""
        options = self._options
        is_served("1.2.840.10008.5.1.4.1.1.2")  # reads the list of UIDs now, not while the first sender waits
        tls = ServerTls(options.tls) if options.tls else None
        doors = self._doors or Doors.open(self._host, self.port if options.plain else None, options.tls_port)
        self.port, self.tls_port = doors.port, doors.tls_port
        if doors.plain:
            self._acceptors.append(Acceptor(doors.plain, self._serve, self._load, "dicom"))
        if doors.tls and tls:
            self._acceptors.append(
                Acceptor(
                    doors.tls,
                    lambda connection, address: self._serve(connection, address, tls),
                    self._load,
                    "dicom-tls",
                )
            )
        for acceptor in self._acceptors:
            acceptor.start()

    def stop(self, grace: float) -> None:
        """Accept nothing more, wait up to ``grace`` seconds for the associations that are open, then abort them."""
        acceptors, self._acceptors = self._acceptors, []
        if not acceptors:
            return
        for acceptor in acceptors:
            acceptor.stop()
        end = time.monotonic() + grace
        # a connection that has not even asked for an association (a port scan, a probe) is not worth waiting for
        while any(assoc.established.is_set() for assoc in self._open()) and time.monotonic() < end:
            time.sleep(0.05)
        for assoc in self._open():
            assoc.abort("the gateway is stopping")
        while (self._open() or self._desk.busy()) and time.monotonic() < end + 5:
            time.sleep(0.02)

    def arriving(self, payload: OpenPayload) -> bool:
        """Whether an image for this payload is just coming in."""
        return self._desk.arriving(payload)

    def _load(self) -> int:
        with self._lock:
            return len(self._connections)

    def _open(self) -> list[Association]:
        with self._lock:
            return list(self._connections)

    def _serve(self, connection: socket.socket, address: str, tls: ServerTls | None = None) -> None:
        assoc = Association(
            connection,
            address,
            options=self._options,
            admission=self._admission,
            desk=self._desk,
            context=tls.context() if tls else None,
        )
        with self._lock:
            self._make_room()
            self._connections[assoc] = None
        try:
            ended = assoc.run()
            self._desk.association_ended(ended.how == "released")
        except Exception as error:  # noqa: BLE001 - the edge of a thread; one association must not fail silently
            log_internal("an association failed", error)
            return
        finally:
            with self._lock:
                del self._connections[assoc]
        count_association(ended)
        self._tell_ended(ended)

    def _make_room(self) -> None:
        """Cut the oldest connection that asks for no association when there are very many of them, so that somebody
        who opens connections only to keep others out does not succeed."""
        waiting = [assoc for assoc in self._connections if not (assoc.established.is_set() or assoc.is_cut)]
        if len(waiting) >= max(MIN_WAITING, self._options.associations):
            waiting[0].cut()

    def _tell_ended(self, ended: Ended) -> None:
        request, tally = ended.request, ended.tally
        if request is None:
            if ended.reason not in ("", CLOSED):  # as a probe of the port does
                self._events.emit(EventKind.CONNECTION_FAILED, peer=ended.address, reason=ended.reason)
            return
        fields = {"called_aet": request.called, "calling_aet": request.calling, "peer": ended.address}
        if ended.how == "rejected":
            self._events.emit(EventKind.ASSOCIATION_REJECTED, **fields, reason=ended.reason)
            return
        if ended.how != "released":
            self._events.emit(EventKind.ASSOCIATION_ABORTED, **fields, reason=ended.reason)
        if tally.count or tally.refused:
            self._events.emit(
                EventKind.ASSOCIATION_ENDED,
                **fields,
                images=tally.count,
                refused=tally.refused,
                bytes=tally.size,
                seconds=round(ended.seconds, 3),
                keep_ms=round(1000 * tally.keep_seconds / max(1, tally.count), 2),
            )
