"""DIMSE for a storage SCP that keeps no image in memory: C-STORE data goes to a file as it comes in.

pynetdicom's own provider collects a whole data set in memory, hands it to another thread and decodes every command
with pydicom. This one takes the fragments of a C-STORE request (PS3.8 annex E) straight to the :class:`Reception` of
the desk, and answers from the thread that reads the socket, which saves two waits of a polling loop an image.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from airflow_monai.gateway.events import log

if TYPE_CHECKING:
    from pynetdicom.association import Association

_MAX_COMMAND_BYTES = 64 * 1024
_COMMAND, _LAST = 1, 2  # bits of a fragment's control header, PS3.8 annex E.2
_C_STORE_RQ, _C_ECHO_RQ, _RESPONSE = 0x0001, 0x0030, 0x8000
_NO_DATA_SET = 0x0101


class Status(IntEnum):
    """What a C-STORE is answered with, PS3.4 section B.2.3 and PS3.7 annex C."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and Error Comment (0000,0902) of an answer; the comment holds nothing of the patient."""

    status: Status
    comment: str = ""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request whose data set is about to come."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    called_aet: str
    calling_aet: str


class Reception(Protocol):
    """Takes one data set."""

    def write(self, fragment: memoryview) -> None:
        """Take the next fragment. Never raises: what goes wrong is told by :meth:`finish`."""

    def finish(self) -> Answer:
        """The data set is complete: keep it for good, or say why not."""

    def discard(self) -> None:
        """Forget what has come so far; does nothing after :meth:`finish`."""


class Desk(Protocol):
    """Where requests are taken."""

    def receive(self, request: StoreRequest) -> Reception: ...


class ProtocolError(Exception):
    """The far side does not keep to the protocol; the association is aborted."""


class StorageProvider(DIMSEServiceProvider):
    """Serves C-STORE and C-ECHO of one association."""

    def __init__(self, assoc: Association, desk: Desk):
        super().__init__(assoc)
        self._desk = desk
        self._command = bytearray()
        self._request: _Command | None = None
        self._reception: Reception | None = None

    def receive_primitive(self, primitive: Any) -> None:
        """Called by the association's reading thread for each P-DATA-TF PDU."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._take(context_id, fragment[0], memoryview(fragment)[1:])
        except ProtocolError as error:
            log.warning("association aborted: %s", error)
            self.discard()
            self.dul.event_queue.put("Evt19")  # invalid PDU: the state machine sends A-ABORT

    def discard(self) -> None:
        """Forget an image that did not come to its end."""
        reception, self._reception = self._reception, None
        if reception:
            reception.discard()

    def _take(self, context_id: int, control: int, fragment: memoryview) -> None:
        if self._request is not None:
            self._take_data(context_id, control, fragment)
            return
        if not control & _COMMAND:
            raise ProtocolError("a data set came without a command")
        self._command += fragment
        if len(self._command) > _MAX_COMMAND_BYTES:
            raise ProtocolError("a command set is longer than 64 KiB")
        if control & _LAST:
            command, self._command = _Command.decode(bytes(self._command), context_id), bytearray()
            self._begin(command)

    def _begin(self, command: _Command) -> None:
        if command.field == _C_ECHO_RQ:
            self._answer(command, Answer(Status.SUCCESS))
        elif command.field != _C_STORE_RQ:
            raise ProtocolError(f"command {command.field:04X}H is not served here, only C-STORE and C-ECHO")
        elif not command.has_data_set:
            self._answer(command, Answer(Status.CANNOT_UNDERSTAND, "C-STORE without a data set"))
        else:
            self._request = command
            self._reception = self._desk.receive(self._store_request(command))

    def _store_request(self, command: _Command) -> StoreRequest:
        context = self.assoc._accepted_cx.get(command.context_id)
        if context is None:
            raise ProtocolError("a message came in a presentation context that was not accepted")
        return StoreRequest(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            called_aet=self.assoc.acceptor.ae_title,
            calling_aet=self.assoc.requestor.ae_title,
        )

    def _take_data(self, context_id: int, control: int, fragment: memoryview) -> None:
        command, reception = self._request, self._reception
        if command is None or reception is None or control & _COMMAND or context_id != command.context_id:
            raise ProtocolError("a data set was interrupted")
        reception.write(fragment)
        if control & _LAST:
            self._request = None
            self._answer(command, reception.finish())
            self._reception = None

    def _answer(self, command: _Command, answer: Answer) -> None:
        primitive = P_DATA()
        header = bytes((_COMMAND | _LAST,))
        fragment: Any = [command.context_id, header + command.response(answer)]
        primitive.presentation_data_value_list = [fragment]
        self.dul.send_pdu(primitive)


@dataclass(frozen=True, slots=True)
class _Command:
    """A command set: always implicit little endian (PS3.7 section 6.3.1)."""

    context_id: int
    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str

    @classmethod
    def decode(cls, data: bytes, context_id: int) -> _Command:
        elements = dict(_elements(data))
        try:
            return cls(
                context_id=context_id,
                field=_short(elements[0x0100]),
                message_id=_short(elements.get(0x0110, b"\0\0")),
                has_data_set=_short(elements[0x0800]) != _NO_DATA_SET,
                sop_class_uid=_uid(elements.get(0x0002, b"")),
                sop_instance_uid=_uid(elements.get(0x1000, b"")),
            )
        except (KeyError, struct.error):
            raise ProtocolError("a command set is incomplete") from None

    def response(self, answer: Answer) -> bytes:
        """The encoded response to this request."""
        elements = [
            _element(0x0002, _even(self.sop_class_uid, b"\0")) if self.sop_class_uid else b"",
            _element(0x0100, struct.pack("<H", self.field | _RESPONSE)),
            _element(0x0120, struct.pack("<H", self.message_id)),
            _element(0x0800, struct.pack("<H", _NO_DATA_SET)),
            _element(0x0900, struct.pack("<H", answer.status)),
            _element(0x0902, _even(answer.comment[:64], b" ")) if answer.comment else b"",
            _element(0x1000, _even(self.sop_instance_uid, b"\0")) if self.sop_instance_uid else b"",
        ]
        body = b"".join(elements)
        return _element(0x0000, struct.pack("<L", len(body))) + body


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    found, position = [], 0
    while position + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHL", data, position)
        position += 8 + length
        if group or position > len(data):
            raise ProtocolError("a command set cannot be parsed")
        found.append((element, data[position - length : position]))
    return found


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def _even(text: str, padding: bytes) -> bytes:
    value = text.encode("latin-1", "replace")
    return value + padding if len(value) % 2 else value


def _short(value: bytes) -> int:
    return int(struct.unpack("<H", value)[0])


def _uid(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")
