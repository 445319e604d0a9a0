"""The connection under an association: plain TCP or TLS, within time-outs, a deadline and a bandwidth limit."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from airflow_monai.errors import DeadlinePassed, DestinationError, SinkUnavailable
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.throttle import Throttle

_AT_ONCE = 65_536  # bytes to read at most: an answer comes with one call
_THROTTLED = 32_768  # bytes at a time under a bandwidth limit
_TLS_RECORDS = 262_144  # bytes at a time over TLS, which takes one buffer only


class NobodyThere(SinkUnavailable):
    """No connection can be made."""


class Wire:
    """A connected socket.

    :param timeout: seconds without any progress after which a call raises ``TimeoutError``.
    :param deadline: when it passes in the midst of a call, that is a ``TimeoutError`` too.
    """

    def __init__(self, sock: socket.socket, timeout: float, deadline: Deadline, throttle: Throttle | None = None):
        self.timeout = timeout
        self._sock = sock
        self._deadline = deadline
        self._throttle = throttle
        self._read = b""  # what has come beyond what was asked for
        self._pieces_at_a_time = not isinstance(sock, ssl.SSLSocket) and throttle is None

    def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Send all buffers, one after the other."""
        if self._pieces_at_a_time:
            self._send_pieces(list(pieces))
        else:
            self._send_joined(memoryview(b"".join(pieces)))

    def read(self, size: int) -> bytes:
        """So many bytes; EOFError when the far side hung up before."""
        while len(self._read) < size:
            self._limit()
            self._acknowledge_at_once()
            more = self._sock.recv(_AT_ONCE)
            if not more:
                raise EOFError("closed the connection")
            self._read += more
        data, self._read = self._read[:size], self._read[size:]
        return data

    def hurry(self, seconds: float) -> None:
        """Give all that follows no longer than this, however it comes."""
        try:
            self._deadline = Deadline(self._deadline.left(seconds))
        except DeadlinePassed:
            return
        self.timeout = seconds

    def close(self) -> None:
        self._sock.close()

    def _send_pieces(self, pieces: list[bytes | memoryview]) -> None:
        """``sendall`` for many buffers without joining them."""
        left = sum(map(len, pieces))
        while left:
            self._limit()
            sent = self._sock.sendmsg(pieces[:1000])  # below the kernel's IOV_MAX
            left -= sent
            while pieces and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if sent:
                pieces[0] = memoryview(pieces[0])[sent:]

    def _send_joined(self, data: memoryview) -> None:
        step = _THROTTLED if self._throttle else _TLS_RECORDS
        for start in range(0, len(data), step):
            part = data[start : start + step]
            if self._throttle:
                self._throttle.take(len(part))
            while part:
                self._limit()
                part = part[self._sock.send(part) :]

    def _limit(self) -> None:
        try:
            self._sock.settimeout(self._deadline.left(self.timeout))
        except DeadlinePassed as error:
            raise TimeoutError(str(error)) from None

    def why_timed_out(self) -> str:
        """What was over when a call raised ``TimeoutError``: the time-out, or the deadline."""
        try:
            self._deadline.left(self.timeout)
        except DeadlinePassed as error:
            return f"before {error}"
        return f"within {self.timeout:g} s"

    def _acknowledge_at_once(self) -> None:
        """Spare a far side that leaves Nagle's algorithm on the 40 ms that it would wait for our acknowledgement."""
        if hasattr(socket, "TCP_QUICKACK"):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def connect(host: str, port: int, timeout: float, tls: ssl.SSLContext | None, name: str) -> socket.socket:
    """A connected socket without Nagle's algorithm.

    :param tls: None for plain TCP; else the server's certificate is checked against ``host`` where the context says so.
    :param name: how the far side is called in errors.
    :raises NobodyThere: nobody answers in time.
    :raises SinkUnavailable: the far side does not get on with the TLS handshake.
    :raises DestinationError: the far side's certificate, or ours, is not accepted.
    """
    try:
        sock = socket.create_connection((host, port), timeout=timeout)
    except TimeoutError:
        raise NobodyThere(f"{name} did not answer within {timeout:g} s: is the address right?") from None
    except OSError as error:
        raise NobodyThere(f"{name} cannot be reached ({error.strerror or error}): is it running?") from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    try:
        return tls.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise DestinationError(
            f"{name} shows a certificate that is not accepted ({error.verify_message.rstrip('.')}): set ca_file to the "
            "certificate of its authority; where it is made out to another host name, set check_host to false."
        ) from None
    except TimeoutError:
        sock.close()
        raise SinkUnavailable(
            f"{name} did not answer the TLS handshake within {timeout:g} s: is TLS on there?"
        ) from None
    except OSError as error:
        sock.close()
        raise SinkUnavailable(f"{name} broke off the TLS handshake ({_reason(error)}): is TLS on there?") from None


def refused_certificate(error: OSError) -> str:
    """Why the far side ended a TLS connection whose client certificate it does not want; empty for another reason.

    With TLS 1.3 that comes only with the first answer.
    """
    reason = (getattr(error, "reason", "") or "").lower()
    return _reason(error) if isinstance(error, ssl.SSLError) and "alert" in reason else ""


def _reason(error: OSError) -> str:
    text = getattr(error, "reason", None) or error.strerror or str(error)
    return str(text).replace("_", " ").lower() if isinstance(error, ssl.SSLError) else str(text)
