"""PDUs of the DICOM upper layer (PS3.8 section 9.3), as far as one who accepts associations reads and writes them.

They come from the network: every length is checked before it is used, what is unknown is passed over, and nothing costs
more than one pass over its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from airflow_monai.store.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
HEAD = struct.Struct(">BxL")
_PDV_HEAD = struct.Struct(">LBB")
_ITEM_HEAD = struct.Struct(">BxH")
_FIXED_BYTES = 68  # of an A-ASSOCIATE-RQ before its items, without the PDU's own head
COMMAND, LAST = 1, 2  # bits of a fragment's control header, PS3.8 annex E.2


class PduType(IntEnum):
    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class ProtocolError(Exception):
    """The far side does not keep to the protocol; the association is aborted.

    :param abort_reason: PS3.8 table 9-26.
    """

    def __init__(self, message: str, abort_reason: int = 6):
        super().__init__(message)
        self.abort_reason = abort_reason


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context of a request: its id, abstract syntax and transfer syntaxes in the sender's order."""

    number: int
    abstract: str
    syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ (PS3.8 section 9.3.2).

    Role selection, asynchronous operations, extended negotiation and user identity (PS3.7 annex D.3.3) are not
    answered, which means by the Standard that the defaults hold: the sender is SCU, one operation at a time, no
    extension, no identity checked.

    :param titles: both AE titles as they came, since an answer repeats them.
    :param max_length: longest P-DATA-TF PDU that the sender takes; 0 for any.
    """

    version: int
    called: str
    calling: str
    titles: bytes
    application_context: str
    contexts: tuple[ProposedContext, ...]
    max_length: int = 0

    @classmethod
    def decode(cls, body: memoryview) -> AssociateRequest:
        """
        :raises ProtocolError: when it is malformed.
        """
        if len(body) < _FIXED_BYTES:
            raise ProtocolError("an A-ASSOCIATE-RQ is too short")
        application_context, max_length, contexts = "", 0, []
        for kind, value in _items(body[_FIXED_BYTES:]):
            if kind == 0x10:
                application_context = _uid(value)
            elif kind == 0x20:
                contexts.append(_context(value))
            elif kind == 0x50:
                for sub, content in _items(value):
                    if sub == 0x51 and len(content) == 4:
                        (max_length,) = struct.unpack(">L", content)
        if len({context.number for context in contexts}) < len(contexts):
            raise ProtocolError("an A-ASSOCIATE-RQ names a presentation context twice")
        return cls(
            version=int.from_bytes(body[:2], "big"),
            called=_title(body[4:20]),
            calling=_title(body[20:36]),
            titles=bytes(body[4:36]),
            application_context=application_context,
            contexts=tuple(contexts),
            max_length=max_length,
        )


class ContextResult(IntEnum):
    """Table 9-18 of PS3.8."""

    ACCEPTED = 0
    NO_ABSTRACT_SYNTAX = 3
    NO_TRANSFER_SYNTAX = 4


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an association is rejected: the three codes of PS3.8 table 9-21, and in words for the events."""

    result: int
    source: int
    reason: int
    text: str


def accept(request: AssociateRequest, results: Iterable[tuple[int, ContextResult, str]], max_length: int) -> bytes:
    """A-ASSOCIATE-AC.

    :param results: id, result and chosen transfer syntax of each presentation context.
    """
    items = _item(0x10, APPLICATION_CONTEXT.encode())
    for number, result, syntax in results:
        items += _item(0x21, bytes((number, 0, result, 0)) + _item(0x40, syntax.encode()))
    items += _item(
        0x50,
        _item(0x51, struct.pack(">L", max_length))
        + _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
        + _item(0x55, IMPLEMENTATION_VERSION_NAME.encode()),
    )
    return _pdu(PduType.ASSOCIATE_AC, struct.pack(">HH", 1, 0) + request.titles + bytes(32) + items)


def reject(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ."""
    return _pdu(PduType.ASSOCIATE_RJ, bytes((0, rejection.result, rejection.source, rejection.reason)))


def abort(source: int, reason: int = 0) -> bytes:
    """A-ABORT.

    :param source: 0 the service user, 2 the provider, whose ``reason`` counts (PS3.8 table 9-26).
    """
    return _pdu(PduType.ABORT, bytes((0, 0, source, reason)))


RELEASE_RP = HEAD.pack(PduType.RELEASE_RP, 4) + bytes(4)


def command_pdus(context: int, command: bytes, max_length: int) -> bytes:
    """P-DATA-TF PDUs of a command set, none longer than the far side takes.

    :param max_length: 0 for any.
    """
    size = max(1, max_length - _PDV_HEAD.size) if max_length else len(command)
    parts = []
    for start in range(0, len(command), size):
        part = command[start : start + size]
        control = COMMAND | (LAST if start + size >= len(command) else 0)
        parts.append(_pdu(PduType.P_DATA, _PDV_HEAD.pack(len(part) + 2, context, control) + part))
    return b"".join(parts)


def fragments(body: memoryview) -> list[tuple[int, int, memoryview]]:
    """Presentation context, control header and data of each fragment of a P-DATA-TF PDU; the data are not copied.

    :raises ProtocolError: when it is malformed.
    """
    found, position, end = [], 0, len(body)
    while position < end:
        if end - position < _PDV_HEAD.size:
            raise ProtocolError("a P-DATA-TF PDU is malformed")
        length, context, control = _PDV_HEAD.unpack_from(body, position)
        after = position + 4 + length
        if length < 2 or after > end:
            raise ProtocolError("a P-DATA-TF PDU is malformed")
        found.append((context, control, body[position + 6 : after]))
        position = after
    if not found:
        raise ProtocolError("a P-DATA-TF PDU is empty")
    return found


def _context(value: memoryview) -> ProposedContext:
    if len(value) < 4:
        raise ProtocolError("a presentation context is too short")
    abstract, syntaxes = "", []
    for kind, content in _items(value[4:]):
        if kind == 0x30:
            abstract = _uid(content)
        elif kind == 0x40:
            syntaxes.append(_uid(content))
    return ProposedContext(value[0], abstract, tuple(syntaxes))


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    position = 0
    while position < len(data):
        if len(data) - position < _ITEM_HEAD.size:
            raise ProtocolError("an A-ASSOCIATE-RQ ends within an item")
        kind, length = _ITEM_HEAD.unpack_from(data, position)
        position += _ITEM_HEAD.size + length
        if position > len(data):
            raise ProtocolError("an A-ASSOCIATE-RQ ends within an item")
        yield kind, data[position - length : position]


def _uid(value: memoryview) -> str:
    return bytes(value).decode("latin-1").strip(" \0")


def _title(value: memoryview) -> str:
    """An AE title: it goes into logs and events, so what is no character of one must not get there."""
    title = bytes(value).partition(b"\0")[0].decode("latin-1").strip(" ")
    if not title.isprintable():
        raise ProtocolError("an AE title holds control characters")
    return title


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM_HEAD.pack(kind, len(value)) + value


def _pdu(kind: PduType, body: bytes) -> bytes:
    return HEAD.pack(kind, len(body)) + body


def is_only(abstract: str, contexts: Sequence[ProposedContext]) -> bool:
    """Whether nothing else is proposed."""
    return bool(contexts) and all(context.abstract == abstract for context in contexts)
