"""Receives images by C-STORE into the store (DICOM PS3.4 annex B)."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from airflow_monai.errors import StoreError
from airflow_monai.gateway.admission import Admission
from airflow_monai.gateway.association import Association, Ended
from airflow_monai.gateway.dicom_settings import MAX_FILE, DicomOptions
from airflow_monai.gateway.dimse import Answer, Status, StoreRequest
from airflow_monai.gateway.events import EventKind, EventLog, log
from airflow_monai.gateway.metrics import count_association
from airflow_monai.gateway.sop_classes import is_served
from airflow_monai.gateway.tls import ServerTls
from airflow_monai.gateway.transport import Acceptor, Doors
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.base import Store
from airflow_monai.store.intake import Instance, Intake, OpenPayload, Placed
from airflow_monai.store.part10 import Identity, NotIdentified, check_uid, file_meta, identify, mapped
from airflow_monai.store.space import DiskGuard

_DISK_COMMENT = "disk limit: [monai] disk_used_percent, disk_reserve"
_TOO_LARGE_COMMENT = "data set exceeds [monai] dicom_max_file"
_HEADER_BYTES = 64 * 1024
MIN_WAITING = 100
"""Connections that may be there without an association, at least."""

Received = Callable[[Placed, str], None]
"""Called for each stored image with where it went and the called AE title."""


class SpoolFolder:
    """A folder of this process for files that are still coming in, on the store's file system.

    Folders of gateways that were killed are removed: their lock is free.
    """

    def __init__(self, store: Store):
        import fcntl

        self._base = store.spool()
        name = uuid.uuid4().hex
        self.path = self._base / f"gateway-{name}"
        making = self._base / f"new-{name}"
        making.mkdir()
        self._lock = open(making / "lock", "w")  # noqa: SIM115 - held as long as this process lives
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        making.rename(self.path)  # it is never seen without being locked

    def remove_abandoned(self) -> None:
        import fcntl

        for folder in self._base.glob("gateway-*"):
            if folder == self.path:
                continue
            try:
                with open(folder / "lock", "r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue  # its gateway lives, or another one has just removed it

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


class StoreDesk:
    """Takes C-STORE requests into the intake.

    :param received: is called for each image after it is durable and before its sender hears success.
    :param grouping: tells how the images of a called AE title are grouped now.
    :param guard: says when no image may begin to come in.
    :param max_file: largest data set in bytes.
    :param sender_left: is called for each payload that an association brought images of, when it has ended in order.
    """

    def __init__(
        self,
        intake: Intake,
        spool: Path,
        events: EventLog,
        received: Received,
        grouping: Callable[[str], Grouping] = lambda called_aet: Grouping.STUDY,
        guard: DiskGuard | None = None,
        max_file: int = MAX_FILE,
        sender_left: Callable[[str], None] = lambda payload_id: None,
    ):
        self.intake = intake
        self.guard = guard
        self.max_file = max_file
        self._grouping = grouping
        self.spool = spool
        self.events = events
        self.received = received
        self.sender_left = sender_left
        self._association = threading.local()  # each is served by one thread
        self._lock = threading.Lock()
        self._arriving: dict[FileReception, None] = {}

    def receive(self, request: StoreRequest) -> FileReception:
        reception = FileReception(self, request)
        with self._lock:
            self._arriving[reception] = None
        return reception

    def busy(self) -> int:
        """How many images are on their way in."""
        with self._lock:
            return len(self._arriving)

    def arriving(self, payload: OpenPayload) -> bool:
        """Whether an image for this payload is just coming in."""
        with self._lock:
            receptions = list(self._arriving)
        return any(reception.belongs_to(payload) for reception in receptions)

    def ended(self, reception: FileReception) -> None:
        with self._lock:
            self._arriving.pop(reception, None)

    def keep(self, request: StoreRequest, file: Path, identity: Identity) -> None:
        instance = Instance(identity, request.called_aet, request.calling_aet)
        placed = self.intake.add(instance, file, self._grouping(request.called_aet))
        self.received(placed, request.called_aet)
        if not placed.duplicate:
            self._association.__dict__.setdefault("payload_ids", set()).add(placed.payload_id)

    def association_ended(self, in_order: bool) -> None:
        """Called by the thread that served it."""
        for payload_id in self._association.__dict__.pop("payload_ids", ()):
            if in_order:
                self.sender_left(payload_id)

    def refuse(self, request: StoreRequest, answer: Answer) -> Answer:
        self.events.emit(
            EventKind.IMAGE_REFUSED,
            called_aet=request.called_aet,
            calling_aet=request.calling_aet,
            status=f"{answer.status:04X}",
            reason=answer.reason or answer.comment,
        )
        return answer


class FileReception:
    """One data set on its way into a file."""

    def __init__(self, desk: StoreDesk, request: StoreRequest):
        self._desk = desk
        self._request = request
        self._path = desk.spool / uuid.uuid4().hex
        self._fd = -1
        self._head = bytearray()
        self._meta = b""
        self._begun = False
        self._size = 0
        self._failure: Answer | None = None
        self._open()

    def _open(self) -> None:
        request = self._request
        refusal = self._desk.guard.refusal() if self._desk.guard else None
        if refusal:  # an image that has begun is let in, one that begins is not
            self._failure = Answer(Status.OUT_OF_RESOURCES, _DISK_COMMENT, refusal)
            return
        try:
            check_uid(request.sop_instance_uid, "Affected SOP Instance UID")
            check_uid(request.sop_class_uid, "Affected SOP Class UID")
            self._meta = file_meta(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except NotIdentified as error:
            self._failure = Answer(Status.CANNOT_UNDERSTAND, str(error))
        except OSError as error:
            self._failure = _out_of_resources(error)

    def write(self, fragment: memoryview) -> None:
        if self._failure:
            return  # the rest still has to be read from the socket
        self._size += len(fragment)
        if self._size > self._desk.max_file:
            self._fail(Answer(Status.OUT_OF_RESOURCES, _TOO_LARGE_COMMENT, self._too_large()))
            return
        try:
            if not self._begun:
                self._begun = True
                _write_both(self._fd, self._meta, fragment)
            else:
                _write_all(self._fd, fragment)
        except OSError as error:
            self._fail(_out_of_resources(error))
            return
        if len(self._head) < _HEADER_BYTES:
            self._head += fragment[: _HEADER_BYTES - len(self._head)]

    def _fail(self, answer: Answer) -> None:
        """What has come of it gives its space back at once: the rest may take long to come."""
        self._failure = answer
        with suppress(OSError):
            os.ftruncate(self._fd, 0)

    def _too_large(self) -> str:
        return f"a data set of more than {self._desk.max_file} bytes, see [monai] dicom_max_file"

    def finish(self) -> Answer:
        try:
            answer = self._failure or self._keep()
        except StoreError as error:
            cause = error.__cause__
            log.error("an image cannot be stored: %s", cause or error)
            answer = _out_of_resources(cause) if isinstance(cause, OSError) else _failed("the store failed")
        except Exception:  # noqa: BLE001 - the edge towards the sender, who must hear that it failed
            log.exception("an image cannot be stored")
            answer = _failed("internal error")
        finally:
            self.discard()
        return answer if answer.status is Status.SUCCESS else self._desk.refuse(self._request, answer)

    def belongs_to(self, payload: OpenPayload) -> bool:
        """As far as what has come so far tells."""
        if self._request.called_aet != payload.called_aet:
            return False
        try:
            identity = identify(bytes(self._head), 0, self._request.transfer_syntax_uid)
        except NotIdentified:
            return False
        return self._desk.intake.groups.of(identity, payload.grouping).key == payload.group

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._path.unlink(missing_ok=True)
        self._desk.ended(self)

    def _keep(self) -> Answer:
        try:
            identity = self._identify()
        except NotIdentified as error:
            return Answer(Status.CANNOT_UNDERSTAND, str(error))
        if identity.sop_class != self._request.sop_class_uid:
            return Answer(Status.DOES_NOT_MATCH, "SOPClassUID is not that of the request")
        if identity.sop != self._request.sop_instance_uid:
            return Answer(Status.DOES_NOT_MATCH, "SOPInstanceUID is not that of the request")
        self._desk.keep(self._request, self._path, identity)
        return Answer(Status.SUCCESS)

    def _identify(self) -> Identity:
        syntax = self._request.transfer_syntax_uid
        try:
            return identify(bytes(self._head), 0, syntax)
        except NotIdentified:
            if len(self._head) < _HEADER_BYTES:
                raise
        with mapped(self._path) as data:  # an unusually long header
            return identify(data, len(self._meta), syntax)


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _write_both(fd: int, first: bytes, second: memoryview) -> None:
    written = os.writev(fd, (first, second))
    if written < len(first):
        _write_all(fd, memoryview(first)[written:])
        written = len(first)
    _write_all(fd, second[written - len(first) :])


def _out_of_resources(error: OSError) -> Answer:
    return Answer(Status.OUT_OF_RESOURCES, f"cannot store: {error.strerror or type(error).__name__}")


def _failed(comment: str) -> Answer:
    return Answer(Status.PROCESSING_FAILURE, comment)


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
        except Exception:  # noqa: BLE001 - the edge of a thread; one association must not fail silently
            log.exception("an association failed")
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
            if ended.reason and ended.how == "failed" and ended.reason != "the connection was closed":
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
