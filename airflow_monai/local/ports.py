"""Free ports on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


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


def choose(usual: int, *, taken: Iterable[int] = ()) -> int:
    """The usual port where it is free, else one that the system gives; never one of ``taken``."""
    reserved = set(taken)
    if usual and usual not in reserved and is_free(usual):
        return usual
    while True:
        with socket.socket() as sock:
            sock.bind((LOOPBACK, 0))
            port = int(sock.getsockname()[1])
        if port not in reserved:
            return port
