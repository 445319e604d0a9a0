"""Free ports on the loopback interface."""

from __future__ import annotations

import secrets
import socket
import sys

LOOPBACK = "127.0.0.1"
RANGE = range(20_000, 30_000)
"""Below what systems give to outgoing connections: none of those takes a port before its server listens on it, or while
that is started again."""


def is_free(port: int) -> bool:
    """True when a server could listen on this loopback port now (an ending connection's TIME_WAIT does not count)."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return not answers(port)


def answers(port: int) -> bool:
    """True when something accepts connections on this loopback port."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((LOOPBACK, port)) == 0


class PortChooser:
    """Chooses ports, and keeps them from other choosers on this machine until :meth:`release`.

    Between the choice and the moment when the server listens, another stack that starts now must not choose the same.
    """

    def __init__(self) -> None:
        self._claims: dict[int, socket.socket | None] = {}

    def choose(self, usual: int = 0) -> int:
        """The usual port where it is free, else any of :data:`RANGE`."""
        port = usual
        while not port or not self._claim(port):
            port = secrets.choice(RANGE)
        return port

    def release(self) -> None:
        """The servers listen now, or will never."""
        for claim in self._claims.values():
            if claim is not None:
                claim.close()
        self._claims.clear()

    def _claim(self, port: int) -> bool:
        if port in self._claims or not is_free(port):
            return False
        claim = None
        if sys.platform == "linux":
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0airflow-monai-port-{port}")  # a name without a file, gone with its process
            except OSError:
                claim.close()
                return False
        self._claims[port] = claim
        return True


def choose(usual: int = 0) -> int:
    """A port that is free now: the usual one, if given and free, else any."""
    chooser = PortChooser()
    try:
        return chooser.choose(usual)
    finally:
        chooser.release()
