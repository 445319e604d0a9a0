"""Receivers that refuse, hang and hang up, for tests of senders."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.pacs import CT, free_port


@dataclass
class Difficult:
    """A receiver under the test's control; ``seen`` lists the SOP Instance UID of every request in order."""

    port: int
    seen: list[str] = field(default_factory=list)
    associations: int = 0


Behaviour = Callable[[Difficult, Any], int]
"""Called with each C-STORE event: returns the status to answer, or does worse."""


@contextmanager
def difficult(
    behave: Behaviour,
    *,
    contexts: dict[str, list[str]] | None = None,
    aet: str = "",
    handlers: Sequence[tuple[Any, Callable[[Any], Any]]] = (),
) -> Iterator[Difficult]:
    """A pynetdicom receiver that answers each C-STORE as ``behave`` says.

    :param contexts: SOP class -> transfer syntaxes that it takes.
    :param aet: the only called AE title that it knows.
    :param handlers: of more of pynetdicom's events.
    """
    from pynetdicom import AE, evt

    receiver = Difficult(free_port())

    def on_store(event: Any) -> int:
        receiver.seen.append(str(event.request.AffectedSOPInstanceUID))
        return behave(receiver, event)

    def on_accepted(event: Any) -> None:
        receiver.associations += 1

    ae = AE(ae_title=aet or "DIFFICULT")
    ae.require_called_aet = bool(aet)
    for sop_class, syntaxes in (contexts or {CT: ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]}).items():
        ae.add_supported_context(sop_class, syntaxes)
    all_handlers: list[Any] = [(evt.EVT_C_STORE, on_store), (evt.EVT_ACCEPTED, on_accepted), *handlers]
    server = ae.start_server(("127.0.0.1", receiver.port), block=False, evt_handlers=all_handlers)
    try:
        yield receiver
    finally:
        server.shutdown()


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


@contextmanager
def trickling(begin: bytes, pause: float, ended: threading.Event | None = None) -> Iterator[int]:
    """A port that answers whatever comes with ``begin``, and then with a byte now and then, until it is ended."""
    ended = ended or threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(sock: socket.socket) -> None:
            with sock, suppress(OSError):
                sock.recv(1 << 20)
                sock.sendall(begin)
                while not ended.wait(pause):
                    sock.sendall(b"a")

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        ended.set()


@contextmanager
def proxy(port: int, cut_after: int) -> Iterator[int]:
    """A port that passes everything on to ``port``, and cuts its first connection after so many bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def pump(source: socket.socket, target: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(65_536):
                passed += len(data)
                if limit is not None and passed > limit:
                    break
                target.sendall(data)
        except OSError:
            pass
        finally:
            for sock in (source, target):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def serve() -> None:
        limit: int | None = cut_after
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far, limit), (far, near, None)):
                threads.append(threading.Thread(target=pump, args=pair, daemon=True))
                threads[-1].start()
            limit = None

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join(timeout=5)
        for thread in threads:
            thread.join(timeout=5)
