"""The PDUs by which an association comes about (PS3.8 section 9.3.2 to 9.3.4), as its requestor needs them.

They are few and simple, and a library for them costs a worker half a second of CPU at each export.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLEMENTATION_UID = "2.25.201386093846274853920614178366192340517"
_REASONS = {
    (1, 1): "No reason given",
    (1, 2): "Application context name not supported",
    (1, 3): "Calling AE title not recognised",
    (1, 7): "Called AE title not recognised",
    (2, 1): "No reason given",
    (2, 2): "Protocol version not supported",
    (3, 1): "Temporary congestion",
    (3, 2): "Local limit exceeded",
}
_TRANSIENT = 2


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an A-ASSOCIATE-AC says.

    :param contexts: ids of the presentation contexts that were accepted.
    :param max_pdu: the longest P-DATA-TF that the acceptor takes, without its first six bytes; 0 for no limit.
    """

    contexts: frozenset[int]
    max_pdu: int


def request(called: str, calling: str, contexts: Mapping[int, tuple[str, str]], max_pdu: int) -> bytes:
    """The body of an A-ASSOCIATE-RQ.

    :param contexts: id -> abstract syntax and the one transfer syntax.
    """
    body = struct.pack(">HH16s16s32x", 1, 0, called.encode("ascii").ljust(16), calling.encode("ascii").ljust(16))
    body += _item(0x10, _APPLICATION_CONTEXT.encode())
    for context_id, (abstract, transfer) in contexts.items():
        syntaxes = _item(0x30, abstract.encode("ascii")) + _item(0x40, transfer.encode("ascii"))
        body += _item(0x20, struct.pack(">Bxxx", context_id) + syntaxes)
    return body + _item(0x50, _item(0x51, struct.pack(">I", max_pdu)) + _item(0x52, _IMPLEMENTATION_UID.encode()))


def accepted(body: bytes) -> Accepted:
    """What the body of an A-ASSOCIATE-AC says; ``ValueError`` when it cannot be understood."""
    contexts, max_pdu = set(), 0
    for kind, value in _items(body, 68):
        if kind == 0x21:
            if len(value) < 4:
                raise ValueError("a presentation context is cut off")
            if value[2] == 0:
                contexts.add(value[0])
        elif kind == 0x50:
            for inner, limit in _items(value, 0):
                if inner == 0x51 and len(limit) == 4:
                    max_pdu = int.from_bytes(limit, "big")
    return Accepted(frozenset(contexts), max_pdu)


def rejection(body: bytes) -> tuple[str, bool]:
    """The reason that an A-ASSOCIATE-RJ gives, and whether a later attempt may end differently."""
    if len(body) < 4:
        return "no reason that can be understood", False
    result, source, reason = body[1:4]
    return _REASONS.get((source, reason), f"source {source}, reason {reason}"), result == _TRANSIENT


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _items(data: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    if len(data) < start:
        raise ValueError("it is cut off")
    while start < len(data):
        if start + 4 > len(data):
            raise ValueError("an item is cut off")
        kind, length = struct.unpack_from(">BxH", data, start)
        start += 4 + length
        if start > len(data):
            raise ValueError("an item is cut off")
        yield kind, data[start - length : start]
