"""Sockets of the DICOM receiver: listens, with or without TLS, and gives each connection a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from airflow_monai.gateway.events import log

BACKLOG = 128
_POLL_SECONDS = 0.2

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
    listening.settimeout(_POLL_SECONDS)
    return listening


class Acceptor:
    """Accepts at one socket until it is stopped.

    :param serve: runs in a thread of its own for each connection.
    """

    def __init__(self, listening: socket.socket, serve: Serve, name: str):
        self.port: int = listening.getsockname()[1]
        self._listening = listening
        self._serve = serve
        self._name = name
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._accept, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more; connections that are open stay."""
        self._stopped.set()
        self._listening.close()
        if self._thread.is_alive():
            self._thread.join(5 * _POLL_SECONDS)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, address = self._listening.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if self._stopped.is_set():
                    return
                log.error("cannot accept a connection: %s", error.strerror or error)
                time.sleep(_POLL_SECONDS)  # too many open files, most likely: some will be closed
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            threading.Thread(
                target=self._serve, args=(connection, str(address[0])), name=f"{self._name}-association", daemon=True
            ).start()
