"""A C-STORE sender made of bytes, for what no well-behaved sender does."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread

EXPLICIT = "1.2.840.10008.1.2.1"


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate(called: str, calling: str, contexts: Sequence[tuple[str, str]]) -> bytes:
    """A-ASSOCIATE-RQ; presentation context ids are 1, 3, 5..."""
    items = _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, syntax) in enumerate(contexts):
        inner = _item(0x30, abstract.encode()) + _item(0x40, syntax.encode())
        items += _item(0x20, struct.pack("BBBB", 2 * number + 1, 0, 0, 0) + inner)
    items += _item(0x50, _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3.4"))
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    return pdu(1, struct.pack(">HH", 1, 0) + titles + bytes(32) + items)


def _element(number: int, value: bytes, padding: bytes = b"\0") -> bytes:
    value += padding if len(value) % 2 else b""
    return struct.pack("<HHL", 0, number, len(value)) + value


def store_command(sop_class: str, sop: str, *, field: int = 1, data_set: int = 1) -> bytes:
    body = (
        _element(0x0002, sop_class.encode())
        + _element(0x0100, struct.pack("<H", field))
        + _element(0x0110, b"\x07\0")
        + _element(0x0700, b"\0\0")
        + _element(0x0800, struct.pack("<H", data_set))
        + _element(0x1000, sop.encode())
    )
    return _element(0, struct.pack("<L", len(body))) + body


def p_data(context: int, control: int, data: bytes) -> bytes:
    return pdu(4, struct.pack(">LBB", len(data) + 2, context, control) + data)


def data_set_of(file: Path) -> bytes:
    """The data set's bytes, without preamble and file meta information."""
    raw = file.read_bytes()
    return raw[144 + struct.unpack_from("<L", raw, 140)[0] :]


def store(context: int, sop_class: str, sop: str, data: bytes, piece: int = 16000) -> bytes:
    """All PDUs of one C-STORE request."""
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)] or [b""]
    parts = [p_data(context, 3, store_command(sop_class, sop))]
    parts += [p_data(context, 0, part) for part in pieces[:-1]]
    return b"".join([*parts, p_data(context, 2, pieces[-1])])


def store_file(context: int, file: Path) -> bytes:
    meta = dcmread(file, specific_tags=[]).file_meta
    return store(context, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, data_set_of(file))


RELEASE = pdu(5, bytes(4))


class RawScu:
    """One connection."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def __enter__(self) -> RawScu:
        return self

    def __exit__(self, *args: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; type 0 when the far side has closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        return head[0], self._exactly(struct.unpack(">L", head[2:])[0])

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return data
            if not more:
                return data
            data += more
        return data

    def associate(self, called: str = "CTLUNG", contexts: Sequence[tuple[str, str]] = ()) -> dict[int, int]:
        """Negotiate; the result of each context (0: accepted)."""
        self.send(associate(called, "RAW", contexts))
        kind, body = self.receive()
        assert kind == 2, f"not accepted: PDU {kind} {body!r}"
        results, position = {}, 68
        while position < len(body):
            item, _, length = struct.unpack_from(">BBH", body, position)
            if item == 0x21:
                results[body[position + 4]] = body[position + 6]
            position += 4 + length
        return results

    def status(self) -> int:
        """Status (0000,0900) of the next answer."""
        kind, body = self.receive()
        assert kind == 4, f"no answer: PDU {kind} {body!r}"
        position = body.index(b"\0\0\0\x09\x02\0\0\0")
        return int(struct.unpack_from("<H", body, position + 8)[0])
