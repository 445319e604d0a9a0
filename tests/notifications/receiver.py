"""A handler of notifications: a real HTTP server that checks signatures, and behaves as it is told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airflow_monai.local.ports import choose
from airflow_monai.notifications.signing import EVENT, KEY, SIGNATURE, verify


class Receiver:
    """
    :ivar status: that it answers with; ``delay``: after so many seconds.
    :ivar got: what was posted with a good signature: event, in the order in which it came.
    :ivar bad: what was posted otherwise.
    """

    def __init__(self, port: int = 0):
        self.secret = ""
        self.status = 204
        self.location = ""
        self.delay = threading.Event()
        self.delay.set()
        self.got: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.bad: list[bytes] = []
        self.tried = 0
        self.refuse: set[str] = set()  # job ids
        self.port = port or choose()  # which no connection is given while it is away
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.got]

    def start(self) -> None:
        """Listen, again where it did."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver.tried += 1
                receiver.delay.wait(20)
                status = receiver.took(body, self.headers)
                self.send_response(status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be away: nobody listens."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def took(self, body: bytes, headers: Any) -> int:
        event = json.loads(body)
        good = verify(self.secret, headers[SIGNATURE] or "", body)
        if not good or headers[KEY] != event["id"] or headers[EVENT] != event["event"]:
            self.bad.append(body)
            return 401
        if event.get("workflow_instance_id") in self.refuse:
            return 422
        if self.status < 300:
            self.got.append(event)
        return self.status
