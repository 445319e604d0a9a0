"""A DICOM association as a service class user: C-STORE, C-FIND and C-ECHO on one socket, in the calling thread.

Requests are written straight from the file to the socket. pynetdicom's own ``send_c_store`` passes every fragment
through queues between threads, which costs most of the speed and now and then loses an answer; here an answer either
comes within its time or the association is given up.

References: DICOM PS3.8 section 9.3 (PDUs), PS3.7 section 9.3.1 (C-STORE), 9.3.2 (C-FIND), 9.3.5 (C-ECHO) and annex E
(commands).
"""

from __future__ import annotations

import io
import os
import ssl
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from airflow_monai.errors import DestinationError, ExportError, SinkUnavailable
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.dimse import negotiation
from airflow_monai.sinks.dimse.wire import Wire, connect, refused_certificate
from airflow_monai.sinks.throttle import Throttle

MAX_CONTEXTS = 128
"""Presentation context ids are the odd numbers of one byte (PS3.8 section 9.3.2.2)."""

_ASSOCIATE_RQ, _ASSOCIATE_AC, _ASSOCIATE_RJ, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)
_MAX_REPLY = 1 << 20  # no answer that we wait for is larger
_OUR_MAX_PDU = 16_384
_UNLIMITED_PDU = 262_144  # what we send at a time to a peer that sets no limit
_BLOCK = 4 << 20  # bytes of a file read at a time
_LAST, _COMMAND = 2, 1  # bits of a message control header (PS3.8 annex E.2)
_NO_DATASET = b"\x01\x01"  # Command Data Set Type (0000,0800)
_RESPONSE = 0x8000  # bit of a command field (0000,0100)
_PENDING = (0xFF00, 0xFF01)  # statuses of a C-FIND answer that has a match


class AssociationLost(SinkUnavailable):
    """The association ended, or an answer did not come in time, in the midst of it."""


class QueryFailed(ExportError):
    """The far side answers queries, but not this one."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call, as whom, and how long to wait.

    :param connect_timeout: seconds for the connection and the association to come about.
    :param response_timeout: seconds without any progress after which the far side counts as hanging.
    :param tls: None for a plain connection (PS3.15 section B.1 and on for TLS).
    """

    host: str
    port: int
    called_aet: str
    calling_aet: str
    connect_timeout: float = 10.0
    response_timeout: float = 30.0
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.called_aet} at {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The far side's answer to a request: status (0000,0900) and error comment (0000,0902)."""

    status: int
    comment: str = ""


class Association:
    """An established association; make one with :func:`associate`.

    :param contexts: (abstract syntax, transfer syntax) -> id of the accepted presentation context.
    """

    def __init__(self, wire: Wire, peer: Peer, contexts: dict[tuple[str, str], int], max_pdu: int):
        self.contexts = contexts
        self._wire = wire
        self._peer = peer
        self._fragment = (min(max_pdu, _UNLIMITED_PDU) if max_pdu else _UNLIMITED_PDU) - 6
        self._message_id = 0

    def store(self, sop_class: str, sop_instance: str, transfer_syntax: str, dataset: BinaryIO) -> Answer:
        """C-STORE the rest of ``dataset``, which is encoded in ``transfer_syntax``.

        :raises AssociationLost: no answer came; this association is closed.
        """
        context = self.contexts[sop_class, transfer_syntax]
        elements = [
            (0x0002, _uid(sop_class)),
            (0x0100, _us(0x0001)),
            (0x0110, _us(self._next_message_id())),
            (0x0700, _us(0)),  # medium priority
            (0x0800, _us(0)),  # a data set follows
            (0x1000, _uid(sop_instance)),
        ]
        return self._request(context, elements, dataset)

    def echo(self) -> Answer:
        """C-ECHO; :class:`AssociationLost` when no answer came."""
        ((syntax, _), context), *_ = self.contexts.items()
        elements = [(0x0002, _uid(syntax)), (0x0100, _us(0x0030)), (0x0110, _us(self._next_message_id()))]
        return self._request(context, [*elements, (0x0800, _us(0x0101))], None)

    def find(self, root: str, transfer_syntax: str, identifier: bytes) -> list[bytes]:
        """C-FIND; the identifiers of the matches, in ``transfer_syntax``.

        :param root: SOP class of the information model.
        :raises QueryFailed: the far side cannot answer this.
        :raises AssociationLost: no answer came; this association is closed.
        """
        elements = [
            (0x0002, _uid(root)),
            (0x0100, _us(0x0020)),
            (0x0110, _us(self._next_message_id())),
            (0x0700, _us(0)),
            (0x0800, _us(0)),  # an identifier follows
        ]
        with self._told():
            self._send_message(self.contexts[root, transfer_syntax], _command(elements), io.BytesIO(identifier))
            return list(self._matches(dict(elements)))

    def release(self) -> None:
        """End the association in good order. All answers are in by now, so a far side that hangs up is fine."""
        try:
            self._wire.hurry(min(5.0, self._peer.response_timeout))
            self._wire.send([_pdu(_RELEASE_RQ, bytes(4))])
            while _read_pdu(self._wire)[0] not in (_RELEASE_RP, _ABORT):
                pass
        except (OSError, EOFError):
            pass
        finally:
            self._wire.close()

    def abort(self) -> None:
        """End the association at once."""
        try:
            self._wire.hurry(1.0)
            self._wire.send([_pdu(_ABORT, bytes(4))])
        except OSError:
            pass
        finally:
            self._wire.close()

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _request(self, context: int, elements: Sequence[tuple[int, bytes]], dataset: BinaryIO | None) -> Answer:
        with self._told():
            self._send_message(context, _command(elements), dataset)
            return self._checked(self._message()[0], dict(elements))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell whatever goes wrong on the wire as :class:`AssociationLost`, after the association is closed."""
        try:
            yield
            return
        except TimeoutError:
            problem = f"did not answer {self._wire.why_timed_out()}"
        except EOFError as error:
            problem = str(error)
        except OSError as error:
            problem = self._farewell() or f"broke the connection ({error.strerror or error})"
        self.abort()
        raise AssociationLost(f"{self._peer} {problem}")

    def _send_message(self, context: int, command: bytes, dataset: BinaryIO | None) -> None:
        head = _data_pdu(context, _COMMAND | _LAST, command)
        if dataset is None:
            self._wire.send(head)
            return
        for pieces in _fragments(dataset, self._fragment, context):
            self._wire.send([*head, *pieces])
            head = []

    def _matches(self, request: Mapping[int, bytes]) -> Iterator[bytes]:
        while True:
            elements, identifier = self._message()
            status = self._checked(elements, request).status
            if status not in _PENDING:
                if status:
                    raise QueryFailed(f"{self._peer} answered a query with status {status:04X}.")
                return
            yield identifier

    def _message(self) -> tuple[dict[int, bytes], bytes]:
        """The next message: the elements of its command, and its data set, which is empty where it has none."""
        command, dataset, elements = bytearray(), bytearray(), None
        while True:
            kind, body = _read_pdu(self._wire)
            if kind != _DATA:
                raise EOFError(_ending(kind, body))
            for control, value in _pdvs(body):
                (command if control & _COMMAND else dataset).extend(value)
                if control == _COMMAND | _LAST:
                    elements = _elements(bytes(command))
                    if elements.get(0x0800, _NO_DATASET) == _NO_DATASET:
                        return elements, b""
                elif control == _LAST and elements is not None:
                    return elements, bytes(dataset)
                if len(command) + len(dataset) > _MAX_REPLY:
                    raise EOFError("sent an answer of an absurd length")

    def _checked(self, elements: Mapping[int, bytes], request: Mapping[int, bytes]) -> Answer:
        """The answer in a message, which must be one to this request: of its kind, its number and, where it names an
        instance, of that one."""
        status = elements.get(0x0900, b"")
        kind = int.from_bytes(request[0x0100], "little") | _RESPONSE
        instance = request.get(0x1000, b"")
        is_ours = elements.get(0x0120) == request[0x0110] and elements.get(0x0100) == _us(kind)
        if len(status) != 2 or not is_ours or _bare(elements.get(0x1000) or instance) != _bare(instance):
            raise EOFError("sent an answer that belongs to no request of ours")
        comment = elements.get(0x0902, b"").decode("latin-1").strip(" \0")
        return Answer(int.from_bytes(status, "little"), "".join(filter(str.isprintable, comment))[:64])

    def _farewell(self) -> str:
        """Why the far side hung up, when an abort of its own still waits to be read."""
        try:
            self._wire.hurry(0.2)
            return _ending(*_read_pdu(self._wire))
        except (OSError, EOFError):
            return ""


def associate(
    peer: Peer,
    syntaxes: Iterable[tuple[str, str]],
    deadline: Deadline | None = None,
    throttle: Throttle | None = None,
) -> Association:
    """Open an association that proposes a presentation context for each (abstract syntax, transfer syntax).

    :param deadline: ends it and whatever is under way on it.
    :param throttle: limits what is sent on it.
    :raises SinkUnavailable: nobody answers, or the far side is too busy now.
    :raises DestinationError: the far side rejects us for good.
    :raises DeadlinePassed: before it came about.
    """
    proposals = {2 * index + 1: pair for index, pair in enumerate(dict.fromkeys(syntaxes))}
    request = negotiation.request(peer.called_aet, peer.calling_aet, proposals, _OUR_MAX_PDU)
    deadline = deadline or Deadline()
    sock = connect(peer.host, peer.port, deadline.left(peer.connect_timeout), peer.tls, str(peer))
    wire = Wire(sock, peer.connect_timeout, deadline, throttle)
    try:
        wire.send([_pdu(_ASSOCIATE_RQ, request)])
        kind, body = _read_pdu(wire)
        if kind == _ASSOCIATE_AC:
            wire.timeout = peer.response_timeout
            return _accepted(wire, peer, proposals, body)
        raise _rejection(peer, body) if kind == _ASSOCIATE_RJ else SinkUnavailable(f"{peer} {_ending(kind, body)}.")
    except BaseException as error:
        wire.close()
        if isinstance(error, TimeoutError):
            deadline.check()
            raise SinkUnavailable(
                f"{peer} took the connection but did not answer the association within {peer.connect_timeout:g} s: "
                "is it a DICOM port, and is the node well?"
            ) from None
        if isinstance(error, OSError) and (alert := refused_certificate(error)):
            raise DestinationError(
                f"{peer} does not want our TLS connection ({alert}): set cert_file and key_file to a certificate that "
                "it knows."
            ) from None
        if isinstance(error, (OSError, EOFError)):
            # A reset can overtake the alert that names the certificate
            also = ", and does it want another certificate of ours (cert_file and key_file)" if peer.tls else ""
            raise SinkUnavailable(f"{peer} hung up during the association: is it a DICOM port{also}?") from None
        raise


def _accepted(wire: Wire, peer: Peer, proposals: dict[int, tuple[str, str]], body: bytes) -> Association:
    try:
        answer = negotiation.accepted(body)
    except ValueError:
        raise DestinationError(f"{peer} answered with an association that cannot be understood.") from None
    contexts = {pair: context_id for context_id, pair in proposals.items() if context_id in answer.contexts}
    return Association(wire, peer, contexts, max(answer.max_pdu, 128) if answer.max_pdu else 0)


def _rejection(peer: Peer, body: bytes) -> SinkUnavailable | DestinationError:
    reason, transient = negotiation.rejection(body)
    text = f"{peer} rejected the association of {peer.calling_aet}: {reason}"
    if transient:
        return SinkUnavailable(f"{text} (for now).")
    return DestinationError(
        f"{text}. The AE titles must be those that the far side expects: called_aet and calling_aet of the connection, "
        "or --called and --calling of `airflow monai send`."
    )


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _read_pdu(wire: Wire) -> tuple[int, bytes]:
    """The next PDU's type and body; EOFError when the far side hung up."""
    kind, length = struct.unpack(">BxI", wire.read(6))
    if length > _MAX_REPLY:
        raise EOFError("sent a PDU of an absurd length")
    return kind, wire.read(length)


def _ending(kind: int, body: bytes) -> str:
    if kind == _ABORT:
        by = "its network layer" if body[2:3] == b"\2" else "its application"
        return f"aborted the association ({by}, reason {body[3] if len(body) > 3 else 0})"
    return "released the association too early" if kind == _RELEASE_RQ else f"sent an unexpected PDU of type {kind}"


def _data_pdu(context: int, control: int, value: bytes | memoryview) -> list[bytes | memoryview]:
    """One P-DATA-TF PDU with one presentation data value, as buffers."""
    size = len(value)
    return [struct.pack(">BxIIBB", _DATA, size + 6, size + 2, context, control), value]


def _fragments(dataset: BinaryIO, size: int, context: int) -> Iterator[list[bytes | memoryview]]:
    """The data set as P-DATA-TF PDUs, some megabytes of them at a time; the last one is marked."""
    block = max(_BLOCK // size, 1) * size
    start_of_data = dataset.tell()
    left = dataset.seek(0, os.SEEK_END) - start_of_data
    dataset.seek(start_of_data)
    while True:
        data = memoryview(dataset.read(min(block, left)))
        left -= len(data)
        if left and not data:
            raise OSError("the file became shorter while it was being sent")
        pieces: list[bytes | memoryview] = []
        for start in range(0, len(data), size) or (0,):
            last = not left and start + size >= len(data)
            pieces += _data_pdu(context, _LAST if last else 0, data[start : start + size])
        yield pieces
        if not left:
            return


def _pdvs(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(message control header, value) of each presentation data value of a P-DATA-TF body."""
    start = 0
    while start + 6 <= len(body):
        length = struct.unpack_from(">I", body, start)[0]
        if length < 2 or start + 4 + length > len(body):
            raise EOFError("sent a damaged PDU")
        yield body[start + 5], body[start + 6 : start + 4 + length]
        start += 4 + length


def _command(elements: Sequence[tuple[int, bytes]]) -> bytes:
    """A command set: group 0000 in implicit VR little endian with its group length (PS3.7 section 6.3.1)."""
    body = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _elements(command: bytes) -> dict[int, bytes]:
    elements, start = {}, 0
    while start + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHI", command, start)
        elements[element if group == 0 else -1] = command[start + 8 : start + 8 + length]
        start += 8 + length
    return elements


def _bare(uid: bytes) -> bytes:
    return uid.strip(b" \0")


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _uid(value: str) -> bytes:
    data = value.encode("ascii")
    return data + b"\0" * (len(data) % 2)
