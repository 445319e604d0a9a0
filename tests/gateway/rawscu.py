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


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate(
    called: str, calling: str, contexts: Sequence[tuple[str, str]], *, max_length: int = 16384, more: bytes = b""
) -> bytes:
    """A-ASSOCIATE-RQ; presentation context ids are 1, 3, 5...

    :param more: items of the user information.
    """
    items = item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, syntax) in enumerate(contexts):
        inner = item(0x30, abstract.encode()) + item(0x40, syntax.encode())
        items += item(0x20, struct.pack("BBBB", 2 * number + 1, 0, 0, 0) + inner)
    items += item(0x50, item(0x51, struct.pack(">L", max_length)) + item(0x52, b"1.2.3.4") + more)
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

    accepted = b""
    """Body of the A-ASSOCIATE-AC."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)

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

    def associate(
        self,
        called: str = "CTLUNG",
        contexts: Sequence[tuple[str, str]] = (),
        *,
        calling: str = "RAW",
        max_length: int = 16384,
        more: bytes = b"",
    ) -> dict[int, int]:
        """Negotiate; the result of each context (0: accepted)."""
        self.send(associate(called, calling, contexts, max_length=max_length, more=more))
        kind, body = self.receive()
        self.accepted = body
        assert kind == 2, f"not accepted: PDU {kind} {body!r}"
        results, position = {}, 68
        while position < len(body):
            item, _, length = struct.unpack_from(">BBH", body, position)
            if item == 0x21:
                results[body[position + 4]] = body[position + 6]
            position += 4 + length
        return results

    def rejection(
        self, called: str = "CTLUNG", calling: str = "RAW", contexts: Sequence[tuple[str, str]] = ()
    ) -> tuple:
        """Result, source and reason of the rejection that this request gets."""
        self.send(associate(called, calling, contexts))
        kind, body = self.receive()
        assert kind == 3, f"not rejected: PDU {kind} {body!r}"
        return tuple(body[1:4])

    def abort(self) -> tuple[int, int]:
        """Source and reason of the abort that comes next."""
        kind, body = self.receive()
        assert kind == 7, f"not aborted: PDU {kind} {body!r}"
        return body[2], body[3]

    def ends(self) -> None:
        """Read until the far side closes."""
        while self.receive()[0]:
            pass

    def status(self) -> int:
        """Status (0000,0900) of the next answer."""
        kind, body = self.receive()
        assert kind == 4, f"no answer: PDU {kind} {body!r}"
        position = body.index(b"\0\0\0\x09\x02\0\0\0")
        return int(struct.unpack_from("<H", body, position + 8)[0])
