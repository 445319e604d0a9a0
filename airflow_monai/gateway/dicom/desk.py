"""Takes the images of C-STORE requests into the intake, from their first fragment to their answer."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from airflow_monai.errors import StoreError
from airflow_monai.gateway.dicom.dimse import Answer, Status, StoreRequest
from airflow_monai.gateway.dicom.settings import MAX_FILE
from airflow_monai.intake.events import EventKind, EventLog, log, log_internal
from airflow_monai.specs.plan import Grouping
from airflow_monai.store.intake import Instance, Intake, OpenPayload, Placed
from airflow_monai.store.part10 import Identity, NotIdentified, check_uid, file_meta, identify, mapped
from airflow_monai.store.space import DiskGuard

_DISK_COMMENT = "disk limit: [monai] disk_used_percent, disk_reserve"
_OTHER_CLASS_COMMENT = "SOP class is not that of the presentation context"
_TOO_LARGE_COMMENT = "data set exceeds [monai] dicom_max_file"
_HEADER_BYTES = 64 * 1024
_GUARDED_BYTES = 16 * 2**20
"""So much of a large image comes in between two looks at the disk."""

Received = Callable[[Placed, str], None]
"""Called for each stored image with where it went and the called AE title."""


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
        self._guarded = _GUARDED_BYTES
        self._failure: Answer | None = None
        self._open()

    def _open(self) -> None:
        request = self._request
        refusal = self._desk.guard.refusal() if self._desk.guard else None
        if refusal:  # an image that has begun is let in, unless it is large; one that begins is not
            self._failure = Answer(Status.OUT_OF_RESOURCES, _DISK_COMMENT, refusal)
            return
        if request.sop_class_uid != request.negotiated_uid and request.sop_class_uid:
            # PS3.7 section 9.1.1.1.9; what was agreed on is the abstract syntax of the presentation context
            self._failure = Answer(Status.SOP_CLASS_NOT_SUPPORTED, _OTHER_CLASS_COMMENT)
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
        if self._size > self._guarded:
            self._guarded = self._size + _GUARDED_BYTES
            if self._desk.guard and (refusal := self._desk.guard.refusal()):
                self._fail(Answer(Status.OUT_OF_RESOURCES, _DISK_COMMENT, refusal))
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
            # whatever fails there is no fault of the image: its sender may try again later
            answer = _out_of_resources(cause if isinstance(cause, OSError) else None)
        except OSError as error:
            log.error("an image cannot be stored: %s", error.strerror or type(error).__name__)
            answer = _out_of_resources(error)
        except Exception as error:  # noqa: BLE001 - the edge towards the sender, who must hear that it failed
            log_internal("an image cannot be stored", error)
            answer = Answer(Status.PROCESSING_FAILURE, "internal error")
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


def _out_of_resources(error: OSError | None = None) -> Answer:
    reason = "the store failed" if error is None else error.strerror or type(error).__name__
    return Answer(Status.OUT_OF_RESOURCES, f"cannot store: {reason}")
