"""A way to the shared Docker engine that refuses some requests, as an engine does whose container no signal ends."""

from __future__ import annotations

import contextlib
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENGINE = "/var/run/docker.sock"
HOLDS = re.compile(rb"(POST \S*/containers/[^/ ]+/(stop|kill)|DELETE \S*/containers/)")
SAYS = b'{"message":"cannot stop container: tried to kill container, but did not receive an exit event"}'


@contextmanager
def refusing_engine() -> Iterator[str]:
    """URL of an engine that stops, kills and removes no container, and does all else."""
    with tempfile.TemporaryDirectory(prefix="engine-") as folder, socket.socket(socket.AF_UNIX) as listening:
        path = str(Path(folder, "d.sock"))
        listening.bind(path)
        listening.listen(50)
        threading.Thread(target=_accept, args=(listening,), daemon=True).start()
        yield f"unix://{path}"
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_serve, args=(client,), daemon=True).start()


def _serve(client: socket.socket) -> None:
    """One request and its answer; the connection ends with it, so that the next one is looked at too."""
    with client, socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return
            head += data
        if HOLDS.match(head):
            length = str(len(SAYS)).encode()
            client.sendall(b"HTTP/1.1 500 x\r\nContent-Type: application/json\r\nConnection: close\r\n")
            client.sendall(b"Content-Length: " + length + b"\r\n\r\n" + SAYS)
            return
        engine.connect(ENGINE)
        first, _, rest = head.partition(b"\r\n")
        rest = re.sub(rb"(?i)connection: keep-alive\r\n", b"", rest)
        engine.sendall(first + b"\r\nConnection: close\r\n" + rest)
        threading.Thread(target=_pass_on, args=(client, engine), daemon=True).start()
        _pass_on(engine, client)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
