"""A wire that breaks: forwards a connection and cuts it after so many bytes."""

from __future__ import annotations

import socket
import struct
import threading

CHUNK = 4096


class Cutter:
    """Listens on :attr:`port` and forwards to ``target`` until ``limit`` bytes have gone there; then resets both."""

    def __init__(self, target: int):
        self.limit = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._back, args=(far, near), daemon=True).start()
            threading.Thread(target=self._forth, args=(near, far, self.limit), daemon=True).start()

    def _forth(self, near: socket.socket, far: socket.socket, left: int) -> None:
        try:
            while left > 0:
                data = near.recv(min(CHUNK, left))
                if not data:
                    break
                far.sendall(data)
                left -= len(data)
        except OSError:
            pass  # the other direction has ended it
        reset(near, far)

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        try:
            while data := far.recv(CHUNK):
                near.sendall(data)
        except OSError:
            pass
        reset(near, far)


def reset(*connections: socket.socket) -> None:
    """Close without a word: the far side gets a reset."""
    for connection in connections:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        connection.close()
