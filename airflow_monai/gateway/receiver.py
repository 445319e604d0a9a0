"""Receives images by C-STORE into the store (DICOM PS3.4 annex B)."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pynetdicom import AE, _config
from pynetdicom.association import Association

from airflow_monai.errors import StoreError
from airflow_monai.gateway.dimse import Answer, Status, StoreRequest
from airflow_monai.gateway.events import EventKind, EventLog, log
from airflow_monai.gateway.transport import MAX_PDU_BYTES, StorageServer
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.base import Store
from airflow_monai.store.intake import Instance, Intake, OpenPayload, Placed
from airflow_monai.store.part10 import Identity, NotIdentified, check_uid, file_meta, identify, mapped

MAX_ASSOCIATIONS = 100
NETWORK_TIMEOUT = 60.0
_HEADER_BYTES = 64 * 1024

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
    """

    def __init__(
        self,
        intake: Intake,
        spool: Path,
        events: EventLog,
        received: Received,
        grouping: Callable[[str], Grouping] = lambda called_aet: Grouping.STUDY,
    ):
        self.intake = intake
        self._grouping = grouping
        self.spool = spool
        self.events = events
        self._received = received
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
        self._received(placed, request.called_aet)

    def refuse(self, request: StoreRequest, answer: Answer) -> Answer:
        self.events.emit(
            EventKind.IMAGE_REFUSED,
            called_aet=request.called_aet,
            calling_aet=request.calling_aet,
            status=f"{answer.status:04X}",
            reason=answer.comment,
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
        self._meta_bytes = 0
        self._failure: Answer | None = None
        self._open()

    def _open(self) -> None:
        request = self._request
        try:
            check_uid(request.sop_instance_uid, "Affected SOP Instance UID")
            check_uid(request.sop_class_uid, "Affected SOP Class UID")
            meta = file_meta(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
            self._meta_bytes = len(meta)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            _write_all(self._fd, memoryview(meta))
        except NotIdentified as error:
            self._failure = Answer(Status.CANNOT_UNDERSTAND, str(error))
        except OSError as error:
            self._failure = _out_of_resources(error)

    def write(self, fragment: memoryview) -> None:
        if self._failure:
            return  # the rest still has to be read from the socket
        try:
            _write_all(self._fd, fragment)
        except OSError as error:
            self._failure = _out_of_resources(error)
        if len(self._head) < _HEADER_BYTES:
            self._head += fragment[:_HEADER_BYTES]

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
            return identify(data, self._meta_bytes, syntax)


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _out_of_resources(error: OSError) -> Answer:
    return Answer(Status.OUT_OF_RESOURCES, f"cannot store: {error.strerror or type(error).__name__}")


def _failed(comment: str) -> Answer:
    return Answer(Status.PROCESSING_FAILURE, comment)


class Receiver:
    """The DICOM SCP: C-STORE and C-ECHO.

    :param knows: tells whether a called AE title is served.
    :param port: 0 for a free one; :attr:`port` tells which.
    """

    name = "dicom"

    def __init__(self, desk: StoreDesk, knows: Callable[[str], bool], events: EventLog, host: str, port: int):
        self._desk = desk
        self._knows = knows
        self._events = events
        self._host = host
        self.port = port
        self._server: StorageServer | None = None

    def start(self) -> None:
        """Listen; :class:`OSError` when the port is taken."""
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # we tell what matters ourselves
        _config.LOG_HANDLER_LEVEL = "none"
        ae = AE()
        ae.require_called_aet = True
        ae.maximum_associations = MAX_ASSOCIATIONS
        ae.maximum_pdu_size = MAX_PDU_BYTES
        ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = NETWORK_TIMEOUT
        self._server = StorageServer(
            ae, (self._host, self.port), desk=self._desk, knows=self._knows, ended=self._tell_ended
        )
        ae._servers.append(self._server)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="dicom-scp", daemon=True).start()

    def stop(self, grace: float) -> None:
        """Accept nothing more, wait up to ``grace`` seconds for the associations that are open, then abort them."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        end = time.monotonic() + grace
        # a connection that has not even asked for an association (a port scan, a probe) is not worth waiting for
        while any(assoc.requestor.primitive for assoc in server.active_associations) and time.monotonic() < end:
            time.sleep(0.05)
        for assoc in server.active_associations:
            assoc.abort()
        while self._desk.busy() and time.monotonic() < end + 5:
            time.sleep(0.05)

    def _tell_ended(self, assoc: Association) -> None:
        request = assoc.requestor.primitive
        if request is None or assoc.is_released:
            return
        kind = EventKind.ASSOCIATION_REJECTED if assoc.is_rejected else EventKind.ASSOCIATION_ABORTED
        fields = {
            "called_aet": request.called_ae_title,
            "calling_aet": request.calling_ae_title,
            "peer": assoc.requestor.address,
        }
        if assoc.is_rejected:
            known = self._knows(request.called_ae_title)
            fields["reason"] = (
                f"more than {MAX_ASSOCIATIONS} associations are open"
                if known
                else "no workflow listens to the called AE title: set informatics_gateway.ae_title of one"
            )
        self._events.emit(kind, **fields)
