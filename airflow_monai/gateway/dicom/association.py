"""One DICOM association as its acceptor sees it (PS3.8 section 9.2), in one thread that reads, stores and answers.

It begins with a connection, and whatever the far side sends or does not send, it ends: every wait has an end, and no
PDU is read that is longer than agreed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_monai.gateway.dicom import pdu
from airflow_monai.gateway.dicom.admission import Admission, Refused
from airflow_monai.gateway.dicom.dimse import Desk, Parties, StorageService, Tally
from airflow_monai.gateway.dicom.pdu import AssociateRequest, ContextResult, PduType, ProtocolError
from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.gateway.dicom.sop_classes import choose_syntax, is_served
from airflow_monai.intake.events import log

_MAX_ASSOCIATE_BYTES = 256 * 1024  # a request with 128 contexts of 40 transfer syntaxes has half of that
_MAX_OTHER_BYTES = 1024  # release and abort have 4
_SLACK = 1024  # some senders do not count all the heads
_READ_AHEAD = 32 * 1024
_LINGER_SECONDS = 2.0
CLOSED = "the connection was closed"
_BY_PROVIDER, _BY_USER = 2, 0


class ConnectionEnded(Exception):
    """The far side, or the network, ended it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an association ended.

    :param how: ``released``, ``rejected``, ``aborted`` or ``failed`` (before it was one).
    :param address: of the peer.
    :param request: None when it was never asked for.
    """

    how: str
    reason: str
    address: str
    request: AssociateRequest | None = None
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0


class PduReader:
    """Whole PDUs from a socket, without a copy of what they hold.

    :param seconds: within which a PDU must be there.
    """

    def __init__(self, connection: socket.socket, seconds: float):
        self._connection = connection
        self._seconds = seconds
        self._start = self._end = 0
        self._view = memoryview(bytearray(4096))
        connection.settimeout(seconds)

    def set_limits(self, seconds: float, max_bytes: int) -> None:
        """From now on; a longer PDU needs a larger buffer for its time."""
        self._seconds = seconds
        self._resize(max(max_bytes + pdu.HEAD.size + _READ_AHEAD, self._end - self._start))
        self._connection.settimeout(seconds)

    def next(self, limit_of: Callable[[int], int]) -> tuple[int, memoryview]:
        """Type and body of the next PDU; the body is valid until the next call.

        :param limit_of: PDU type -> longest body.
        :raises ConnectionEnded: when the far side closes.
        :raises ProtocolError: when it is longer than its type may be.
        :raises TimeoutError: when it is not there in time.
        """
        deadline = time.monotonic() + self._seconds
        self._need(pdu.HEAD.size, deadline)
        kind, length = pdu.HEAD.unpack_from(self._view, self._start)
        limit = limit_of(kind)
        if length > limit:
            raise ProtocolError(f"a PDU of type {kind:02X}H has {length} bytes, more than the {limit} that it may have")
        self._need(pdu.HEAD.size + length, deadline)
        body = self._view[self._start + pdu.HEAD.size : self._start + pdu.HEAD.size + length]
        self._start += pdu.HEAD.size + length
        return kind, body

    def _need(self, count: int, deadline: float) -> None:
        """Have at least ``count`` bytes from the start."""
        if self._start == self._end:
            self._start = self._end = 0
        while self._end - self._start < count:
            if self._start + count > len(self._view):
                self._make_room(count)
            received = self._connection.recv_into(self._view[self._end :])
            if not received:
                raise ConnectionEnded(CLOSED)
            self._end += received
            if self._end - self._start < count and time.monotonic() > deadline:
                raise TimeoutError

    def _make_room(self, count: int) -> None:
        if count > len(self._view):
            self._resize(count + _READ_AHEAD)
            return
        waiting = self._end - self._start
        self._view[:waiting] = self._view[self._start : self._end]
        self._start, self._end = 0, waiting

    def _resize(self, size: int) -> None:
        waiting = bytes(self._view[self._start : self._end])
        self._view = memoryview(bytearray(size))
        self._view[: len(waiting)] = waiting
        self._start, self._end = 0, len(waiting)


class Association:
    """A connection, from its first byte to its last.

    :param address: of the peer.
    :param context: makes the connection a TLS one.
    """

    def __init__(
        self,
        connection: socket.socket,
        address: str,
        *,
        options: DicomOptions,
        admission: Admission,
        desk: Desk,
        context: ssl.SSLContext | None = None,
    ):
        self.address = address
        self.established = threading.Event()
        self.is_cut = False
        self._connection = connection
        self._options = options
        self._admission = admission
        self._desk = desk
        self._context = context
        self._request: AssociateRequest | None = None
        self._tally = Tally()
        self._stopped = ""

    def run(self) -> Ended:
        """Serve it to its end."""
        began = time.monotonic()
        how, reason = "failed", ""
        try:
            how, reason = self._run()
        except (ConnectionEnded, TimeoutError, ssl.SSLError, OSError) as error:
            reason = self._stopped or self._why(error)
            how = "aborted" if self.established.is_set() else "failed"
        finally:
            self._close()
        return Ended(how, reason, self.address, self._request, self._tally, time.monotonic() - began)

    def abort(self, reason: str) -> None:
        """End it, from another thread."""
        self._stopped = reason
        with contextlib.suppress(OSError, ValueError):
            if not isinstance(self._connection, ssl.SSLSocket):  # which two threads must not write to
                self._connection.send(pdu.abort(_BY_USER), socket.MSG_DONTWAIT)
        self.cut()

    def cut(self) -> None:
        """End the connection without a word, from another thread.

        Only the socket below TLS is shut: ``SSLSocket.shutdown`` would make the thread that reads take what is still
        encrypted for the rest of its PDU, and keep an image that nobody sent.
        """
        self.is_cut = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            if self.established.is_set():
                return f"nothing, or no whole PDU, came for {self._options.idle_seconds:g} s: see dicom_idle_seconds"
            return f"no association was asked for within {self._options.artim_seconds:g} s: see dicom_artim_seconds"
        if isinstance(error, ssl.SSLEOFError):
            return CLOSED  # as a probe of the port does
        if isinstance(error, ssl.SSLError):
            return f"TLS: {error.reason or 'the connection broke'}"
        if isinstance(error, ConnectionEnded):
            return str(error)
        return f"the connection broke ({getattr(error, 'strerror', None) or type(error).__name__})"

    def _run(self) -> tuple[str, str]:
        if self._context:
            self._connection.settimeout(self._options.artim_seconds)
            secure = self._context.wrap_socket(self._connection, server_side=True, do_handshake_on_connect=False)
            self._connection = secure  # before the handshake, so that it can be cut in it
            secure.do_handshake()
        reader = PduReader(self._connection, self._options.artim_seconds)
        try:
            return self._negotiate(reader)
        except ProtocolError as error:
            log.warning("association aborted: %s", error)
            self._send(pdu.abort(_BY_PROVIDER, error.abort_reason))
            self._linger()
            return ("aborted" if self._request else "failed"), str(error)

    def _negotiate(self, reader: PduReader) -> tuple[str, str]:
        kind, body = reader.next(lambda kind: _MAX_ASSOCIATE_BYTES if kind == PduType.ASSOCIATE_RQ else 0)
        if kind != PduType.ASSOCIATE_RQ:
            raise ProtocolError("it does not begin with an A-ASSOCIATE-RQ", 2)
        self._request = request = AssociateRequest.decode(body)
        try:
            with self._admission.admitted(request, self.address):
                ended = self._serve(reader, request)
        except Refused as refused:
            self._send(pdu.reject(refused.rejection))
            ended = ("rejected", str(refused))
        self._linger()
        return ended

    def _serve(self, reader: PduReader, request: AssociateRequest) -> tuple[str, str]:
        results, accepted = [], {}
        for context in request.contexts:
            syntax = choose_syntax(context.syntaxes)
            if not is_served(context.abstract):
                result = ContextResult.NO_ABSTRACT_SYNTAX
            elif syntax is None:
                result = ContextResult.NO_TRANSFER_SYNTAX
            else:
                result = ContextResult.ACCEPTED
                accepted[context.number] = (context.abstract, syntax)
            results.append((context.number, result, syntax or "1.2.840.10008.1.2"))
        options = self._options
        self._send(pdu.accept(request, results, options.max_pdu))
        self.established.set()
        reader.set_limits(options.idle_seconds, options.max_pdu + _SLACK)
        service = StorageService(self._desk, Parties(request.called, request.calling), accepted)
        self._tally = service.tally
        try:
            return self._exchange(reader, service, request.max_length)
        finally:
            service.discard()

    def _exchange(self, reader: PduReader, service: StorageService, max_length: int) -> tuple[str, str]:
        longest = self._options.max_pdu + _SLACK

        def limit(kind: int) -> int:
            return longest if kind == PduType.P_DATA else _MAX_OTHER_BYTES

        while True:
            kind, body = reader.next(limit)
            if kind == PduType.P_DATA:
                for context, control, fragment in pdu.fragments(body):
                    answer = service.take(context, control, fragment)
                    if answer is not None:
                        self._send(pdu.command_pdus(context, answer, max_length))
            elif kind == PduType.RELEASE_RQ:
                self._send(pdu.RELEASE_RP)
                return "released", ""
            elif kind == PduType.ABORT:
                return "aborted", "the sender aborted it"
            else:
                known = kind in PduType.__members__.values()
                raise ProtocolError(f"a PDU of type {kind:02X}H came within an association", 2 if known else 1)

    def _send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def _linger(self) -> None:
        """Let the far side read our last word and close: a connection that is closed with unread data is reset."""
        with contextlib.suppress(OSError, ValueError):
            end = time.monotonic() + _LINGER_SECONDS
            self._connection.settimeout(_LINGER_SECONDS)
            if not isinstance(self._connection, ssl.SSLSocket):
                self._connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < end and self._connection.recv(64 * 1024):
                pass

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()
