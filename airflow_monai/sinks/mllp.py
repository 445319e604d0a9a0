"""One MLLP connection (HL7's minimal lower layer protocol, release 1): a message out, its acknowledgement in."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass

from airflow_monai.errors import SinkUnavailable
from airflow_monai.sinks.deadline import Deadline
from airflow_monai.sinks.dimse.wire import connect
from airflow_monai.sinks.hl7_message import END, START, Acknowledgement, Message, read_acknowledgement

_BLOCK = 65_536
_MAX_ANSWER = 1 << 20


class AnswerLost(SinkUnavailable):
    """The message was sent, at least in part, and no acknowledgement of it came."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom to call.

    :param name: in messages.
    :param response_timeout: seconds for an acknowledgement to come.
    :param tls: None for plain TCP.
    """

    name: str
    host: str
    port: int
    connect_timeout: float = 10.0
    response_timeout: float = 30.0
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.name} at {self.host}:{self.port}"


class Line:
    """An open connection.

    :raises SinkUnavailable: nobody listens there.
    :raises DestinationError: TLS does not come about.
    """

    def __init__(self, listener: Listener, deadline: Deadline):
        self._listener, self._deadline = listener, deadline
        self._buffer = bytearray()
        seconds = deadline.left(listener.connect_timeout)
        self._socket = connect(listener.host, listener.port, seconds, listener.tls, str(listener))

    def close(self) -> None:
        self._socket.close()

    @property
    def is_open(self) -> bool:
        """False when the far side has hung up, as listeners do that are left alone; what it said before is dropped."""
        try:
            self._socket.settimeout(0.0)
            while self._socket.recv(_BLOCK):
                self._buffer.clear()
        except (BlockingIOError, ssl.SSLWantReadError):
            self._buffer.clear()
            return True
        except OSError:
            pass
        return False

    def ask(self, message: Message) -> Acknowledgement:
        """Send a message and wait for what is said of it; what is said of others is left aside.

        :raises AnswerLost: there is no knowing whether it has arrived; the connection is of no more use.
        """
        end = time.monotonic() + self._deadline.left(self._listener.response_timeout)
        try:
            self._socket.settimeout(_left(end))
            self._socket.sendall(message.frame)
            while True:
                found = read_acknowledgement(self._frame(end))
                if found is not None and found.control_id == message.control_id:
                    return found
        except TimeoutError:
            waited = f"{self._listener.response_timeout:g} s"
            raise AnswerLost(f"{self._listener} did not acknowledge within {waited}") from None
        except _TooLong:
            raise AnswerLost(f"{self._listener} answers without an end; is it an MLLP listener?") from None
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise AnswerLost(f"{self._listener} broke off the connection ({reason})") from None

    def _frame(self, end: float) -> bytes:
        """The content of the next frame; what stands between frames is skipped."""
        while True:
            begin = self._buffer.find(START)
            close = self._buffer.find(END[:1], begin + 1) if begin >= 0 else -1
            if close >= 0:
                content = bytes(self._buffer[begin + 1 : close])
                del self._buffer[: close + 1]
                return content
            if len(self._buffer) > _MAX_ANSWER:
                raise _TooLong
            self._socket.settimeout(_left(end))
            block = self._socket.recv(_BLOCK)
            if not block:
                raise ConnectionResetError(0, "it hung up")
            self._buffer += block


class _TooLong(Exception):
    pass


def _left(end: float) -> float:
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
