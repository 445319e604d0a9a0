"""A stand-in for Airflow's API server: the few answers that the gateway needs, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airflow_monai.local.ports import choose


class StandInAirflow:
    """Keeps runs by (dag, run id).

    :param port: to listen at; 0 for a free one.
    """

    def __init__(self, port: int = 0):
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.posts: Counter[tuple[str, str]] = Counter()
        self.dags: set[str] | None = None  # None: every DAG is known
        self.down = False  # answers 503
        self.lie_409 = False
        self.in_flight = self.most_in_flight = self.logins = 0
        self.token = "first"
        self.lock = threading.Lock()
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                standin.answer(self)

            def do_GET(self) -> None:
                standin.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        # no port that a connection may be given while a test has this one away
        self.server = ThreadingHTTPServer(("127.0.0.1", port or choose()), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def connection(self) -> str:
        """The value for AIRFLOW_CONN_MONAI_AIRFLOW."""
        parts = {"conn_type": "http", "host": "127.0.0.1", "port": self.port, "login": "gw", "password": "secret"}
        return json.dumps(parts)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers.get("Content-Length") or 0)) or "null")
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        status, answer = self._decide(request, body)
        with self.lock:
            self.in_flight -= 1
        data = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def listed(self, parts: list[str], path: str) -> tuple[int, Any]:
        """What lists of DAGs, runs and task instances hold: nothing, unless a kind of this knows better."""
        return 200, {"dags": [], "dag_runs": [], "task_instances": [], "next_cursor": None, "total_entries": 0}

    def _decide(self, request: BaseHTTPRequestHandler, body: Any) -> tuple[int, Any]:
        parts = request.path.partition("?")[0].strip("/").split("/")
        with self.lock:
            if self.down:
                return 503, {"detail": "down"}
            if parts == ["auth", "token"]:
                self.logins += 1
                good = body == {"username": "gw", "password": "secret"}
                return (201, {"access_token": self.token}) if good else (401, {"detail": "wrong"})
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                return 401, {"detail": "token"}
            if request.command == "GET" and (len(parts) < 6 or "~" in parts):
                return self.listed(parts, request.path)
            dag_id = parts[3]
            if self.dags is not None and dag_id not in self.dags:
                return 404, {"detail": "no such DAG"}
            if request.command == "GET":
                run = self.runs.get((dag_id, parts[5]))
                return (200, run) if run else (404, {"detail": "no such run"})
            key = (dag_id, body["dag_run_id"])
            self.posts[key] += 1
            if self.lie_409 or key in self.runs:
                return 409, {"detail": "exists"}
            self.runs[key] = body
            return 200, body
