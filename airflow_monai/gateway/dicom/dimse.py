"""DIMSE for a storage SCP that keeps no image in memory: C-STORE data goes to a file as it comes in (PS3.7).

The fragments of a request (PS3.8 annex E) go straight to the :class:`Reception` of the desk, and the thread that reads
the socket answers.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from airflow_monai.gateway.dicom.pdu import COMMAND, LAST, ProtocolError

_MAX_COMMAND_BYTES = 64 * 1024
_C_STORE_RQ, _C_ECHO_RQ, _RESPONSE = 0x0001, 0x0030, 0x8000
_NO_DATA_SET = 0x0101


class Status(IntEnum):
    """What a C-STORE is answered with, PS3.4 section B.2.3 and PS3.7 annex C."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and Error Comment (0000,0902) of an answer; the comment holds nothing of the patient.

    :param reason: what the events say, where the 64 characters of a comment are too few.
    """

    status: Status
    comment: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request whose data set is about to come.

    :param negotiated_uid: the abstract syntax of its presentation context, which its SOP class must be.
    """

    sop_class_uid: str
    negotiated_uid: str
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


@dataclass(frozen=True, slots=True)
class Parties:
    """AE titles of an association."""

    called_aet: str
    calling_aet: str


@dataclass(slots=True)
class Tally:
    """What an association brought.

    :param count: of its images that are kept; ``size`` is theirs in bytes of their data sets.
    :param keep_seconds: that it took, in all, from the last byte of an image until it was durable.
    """

    count: int = 0
    size: int = 0
    refused: int = 0
    keep_seconds: float = 0.0


class StorageService:
    """Serves C-STORE and C-ECHO of one association.

    :param contexts: id of an accepted presentation context -> its abstract and its transfer syntax.
    """

    def __init__(self, desk: Desk, parties: Parties, contexts: Mapping[int, tuple[str, str]]):
        self._desk = desk
        self._parties = parties
        self._contexts = contexts
        self._command = bytearray()
        self._context = 0
        self._request: _Command | None = None
        self._reception: Reception | None = None
        self._size = 0
        self.tally = Tally()

    def take(self, context: int, control: int, fragment: memoryview) -> bytes | None:
        """Take the next fragment. When a request is complete by it: the command set that answers it.

        :raises ProtocolError: when it does not belong here.
        """
        if self._request is not None:
            return self._take_data(self._request, context, control, fragment)
        if not control & COMMAND:
            raise ProtocolError("a data set came without a command")
        if context not in self._contexts:
            raise ProtocolError("a message came in a presentation context that was not accepted")
        if self._command and context != self._context:
            raise ProtocolError("a command set was interrupted")
        if len(self._command) + len(fragment) > _MAX_COMMAND_BYTES:
            raise ProtocolError("a command set is longer than 64 KiB")
        self._context = context
        self._command += fragment
        if not control & LAST:
            return None
        command, self._command = _Command.decode(bytes(self._command), context), bytearray()
        return self._begin(command)

    def discard(self) -> None:
        """Forget an image that did not come to its end."""
        reception, self._reception = self._reception, None
        if reception:
            reception.discard()

    def _begin(self, command: _Command) -> bytes | None:
        if command.field == _C_ECHO_RQ:
            return command.response(Answer(Status.SUCCESS))
        if command.field != _C_STORE_RQ:
            raise ProtocolError(f"command {command.field:04X}H is not served here, only C-STORE and C-ECHO")
        if not command.has_data_set:
            return command.response(Answer(Status.CANNOT_UNDERSTAND, "C-STORE without a data set"))
        self._request, self._size = command, 0
        abstract, syntax = self._contexts[command.context_id]
        self._reception = self._desk.receive(
            StoreRequest(
                sop_class_uid=command.sop_class_uid,
                negotiated_uid=abstract,
                sop_instance_uid=command.sop_instance_uid,
                transfer_syntax_uid=syntax,
                called_aet=self._parties.called_aet,
                calling_aet=self._parties.calling_aet,
            )
        )
        return None

    def _take_data(self, command: _Command, context: int, control: int, fragment: memoryview) -> bytes | None:
        reception = self._reception
        if reception is None or control & COMMAND or context != command.context_id:
            raise ProtocolError("a data set was interrupted")
        reception.write(fragment)
        self._size += len(fragment)
        if not control & LAST:
            return None
        began = time.monotonic()
        answer = reception.finish()
        self._request = self._reception = None
        if answer.status is Status.SUCCESS:
            self.tally.count += 1
            self.tally.size += self._size
            self.tally.keep_seconds += time.monotonic() - began
        else:
            self.tally.refused += 1
        return command.response(answer)


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
