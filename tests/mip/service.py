"""A service that takes posted results, as a site's own would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airflow_monai.sinks.base import Destination


class Service:
    """
    :ivar statuses: what it answers next; 201 when there is none left.
    :ivar got: headers, with the path among them, and body of each request.
    """

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                service.got.append(({**self.headers, "path": self.path}, body))
                self.send_response(service.statuses.pop(0) if service.statuses else 201)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def connection(self) -> dict[str, Any]:
        """An Airflow connection to it."""
        host = f"http://127.0.0.1:{self.server.server_port}/results"
        return {"conn_type": "http", "host": host, "login": "cdr", "password": "secret"}

    def destination(self, name: str) -> Destination:
        return Destination(name, **self.connection)


@contextmanager
def result_service() -> Iterator[Service]:
    made = Service()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
