"""A StatsD server that keeps what comes."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Metrics:
    """What Airflow's parts and the gateway have sent so far."""

    def __init__(self, port: int):
        self.port = port
        self._lines: set[str] = set()  # without their numbers: there are very many of some
        self._lock = threading.Lock()

    def take(self, data: bytes) -> None:
        with self._lock:
            self._lines.update(line.partition(":")[0] for line in data.decode("latin-1").splitlines())

    def names(self) -> list[str]:
        """Names of metrics, with their tags."""
        with self._lock:
            return sorted(self._lines)

    def environment(self) -> dict[str, str]:
        """Settings for the stack; none where Airflow lacks the client."""
        if importlib.util.find_spec("statsd") is None:
            return {}
        given = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(self.port)}
        # with tags in the names, which would else not be sent at all
        return {
            f"AIRFLOW__METRICS__{name}": value for name, value in {**given, "STATSD_INFLUXDB_ENABLED": "True"}.items()
        }


@contextmanager
def collected() -> Iterator[Metrics]:
    """On a free port of the loopback, ended with the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # what has no room there is lost
        found, ended = Metrics(sock.getsockname()[1]), threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    found.take(sock.recv(65_536))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()
