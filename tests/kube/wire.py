"""A wire to a server on this host that a test can cut and mend."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.chaos.cutter import reset


class Wire:
    """Listens on :attr:`port` and forwards to ``target``; while it is cut, connections are reset.

    :param target: a port of the loopback.
    :param host: address that it listens on.
    """

    def __init__(self, target: int, host: str = "127.0.0.1"):
        self.host = host
        self.is_cut = False
        self._target = target
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((host, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        reset(*self._open)
        self._open.clear()

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                reset(near)
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
