"""Sockets of the DICOM receiver: listens, with or without TLS, and gives each connection a thread."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_monai.intake.events import log

BACKLOG = 128
_POLL_SECONDS = 0.2
_COURTESY_SECONDS, _MOST_COUNTED = 0.001, 20

Serve = Callable[[socket.socket, str], None]
"""Serves a connection from an address to its end, and closes it."""


def listen(host: str, port: int) -> socket.socket:
    """
    :raises OSError: when the port is taken; its ``filename`` says which.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6()
        )
    except OSError as error:
        error.filename = f"{host}:{port}"
        raise
    listening.setblocking(False)  # another process may be quicker
    return listening


@dataclass(frozen=True, slots=True)
class Doors:
    """The sockets that a receiver listens at: for plain associations, and for those with TLS."""

    plain: socket.socket | None = None
    tls: socket.socket | None = None

    @classmethod
    def open(cls, host: str, port: int | None, tls_port: int | None) -> Doors:
        """
        :param port: 0 for a free one, None for none; ``tls_port`` likewise.
        :raises OSError: when a port is taken.
        """
        plain = None if port is None else listen(host, port)
        try:
            return cls(plain, None if tls_port is None else listen(host, tls_port))
        except OSError:
            cls(plain).close()
            raise

    @property
    def port(self) -> int:
        """0 for none."""
        return self.plain.getsockname()[1] if self.plain else 0

    @property
    def tls_port(self) -> int:
        return self.tls.getsockname()[1] if self.tls else 0

    def close(self) -> None:
        for door in (self.plain, self.tls):
            if door:
                door.close()


class Acceptor:
    """Accepts at one socket until it is stopped.

    :param serve: runs in a thread of its own for each connection.
    :param load: how many associations this process has. One with more of them lets others, which accept at the same
        socket, go first.
    """

    def __init__(self, listening: socket.socket, serve: Serve, load: Callable[[], int], name: str):
        self._listening = listening
        self._serve = serve
        self._load = load
        self._name = name
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._accept_all, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more; connections that are open stay."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5 * _POLL_SECONDS)
        self._listening.close()

    def _accept_all(self) -> None:
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        while not self._stopped.is_set():
            if poll.poll(1000 * _POLL_SECONDS):
                time.sleep(min(self._load(), _MOST_COUNTED) * _COURTESY_SECONDS)
                self._accept()

    def _accept(self) -> None:
        try:
            connection, address = self._listening.accept()
        except BlockingIOError:
            return  # another process was quicker, or the far side has left
        except OSError as error:
            log.error("cannot accept a connection: %s", error.strerror or error)
            time.sleep(_POLL_SECONDS)  # too many open files, most likely: some will be closed
            return
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        thread = threading.Thread(
            target=self._serve, args=(connection, str(address[0])), name=f"{self._name}-association", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread to give; the next one may get it
            connection.close()
            log.error("cannot serve a connection: %s", error)
            time.sleep(_POLL_SECONDS)
