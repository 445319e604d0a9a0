"""An MLLP listener under a test's control."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_monai.sinks.base import Destination


@dataclass
class Listener:
    """What came in: one frame's content each; ``connections`` counts how often somebody connected."""

    port: int = 0
    received: list[bytes] = field(default_factory=list)
    connections: int = 0

    def ids(self) -> list[str]:
        return [control_id(message) for message in self.received]

    def destination(self, **extra: Any) -> Destination:
        extra = {"connect_timeout": 10, "response_timeout": 15, **extra}
        return Destination("HIS", "monai_mllp", "127.0.0.1", self.port, extra)


Behaviour = Callable[[Listener, bytes], bytes | None]
"""Called with each message: the bytes to answer, which may be empty, or None to hang up."""


def control_id(message: bytes) -> str:
    return message.split(b"\r")[0].split(b"|")[9].decode("latin-1")


def ack(message: bytes, code: str = "AA", text: str = "", err: str = "", about: str | None = None) -> bytes:
    """A framed acknowledgement."""
    segments = [
        "MSH|^~\\&|HIS|H|MONAI|M|20261127||ACK^R01|A1|P|2.5.1",
        f"MSA|{code}|{about or control_id(message)}|{text}",
    ]
    return b"\x0b" + "\r".join([*segments, *([err] if err else [])]).encode() + b"\r\x1c\r"


def accept(listener: Listener, message: bytes) -> bytes:
    return ack(message)


@contextmanager
def listening(behave: Behaviour = accept, tls: ssl.SSLContext | None = None) -> Iterator[Listener]:
    """A listener on a free port of the loopback that takes one connection after the other, or several at a time."""
    state = Listener()
    server = socket.create_server(("127.0.0.1", 0))
    state.port = server.getsockname()[1]

    def serve(sock: socket.socket) -> None:
        buffer = b""
        with suppress(OSError), tls.wrap_socket(sock, server_side=True) if tls else sock as line:
            while block := line.recv(65_536):
                buffer += block
                while b"\x1c\r" in buffer:
                    frame, _, buffer = buffer.partition(b"\x1c\r")
                    assert frame[:1] == b"\x0b", frame[:20]
                    state.received.append(frame[1:])
                    answer = behave(state, frame[1:])
                    if answer is None:
                        return
                    line.sendall(answer)

    def take() -> None:
        with suppress(OSError):
            while True:
                sock, _ = server.accept()
                state.connections += 1
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
