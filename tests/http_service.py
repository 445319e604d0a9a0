"""A small HTTP service in a process of its own, which behaves as its paths say and keeps a log of what it was asked."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from urllib.request import urlopen


@dataclass(frozen=True)
class HttpService:
    """The service as tests see it."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def finish(self, job_path: str) -> None:
        """Let a job come to its end."""
        with urlopen(f"{self.url}{job_path}/finish"):
            pass

    def started(self, seconds: float) -> list[str]:
        """The paths of the jobs that were started to take so many seconds."""
        with urlopen(f"{self.url}/started/{seconds:g}") as answer:
            return list(json.loads(answer.read()))

    def asked(self, path: str = "", method: str = "") -> list[dict[str, Any]]:
        """The requests that came so far: of a path's beginning, of a method."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines]
        return [one for one in found if one["path"].startswith(path) and method in ("", one["method"])]


@contextmanager
def http_service(folder: Path, port: int = 0) -> Iterator[HttpService]:
    """Run the service."""
    log = folder / "requests.jsonl"
    process = subprocess.Popen([sys.executable, __file__, str(log), str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield HttpService(int(process.stdout.readline()), log)
    finally:
        process.kill()
        process.wait(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_file = Path()
    seen: dict[str, int] = {}
    jobs: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}
    lock = threading.Lock()

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.asked = {
            "method": self.command,
            "path": parts.path,
            "query": parse_qsl(parts.query, keep_blank_values=True),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body,
        }
        with self.lock, self.log_file.open("a") as file:
            file.write(json.dumps(self.asked) + "\n")
        name, *rest = parts.path.strip("/").split("/")
        getattr(self, f"answer_{name}", self.answer_unknown)(*rest)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle

    def _count(self, name: str) -> int:
        with self.lock:
            self.seen[name] = self.seen.get(name, 0) + 1
            return self.seen[name]

    def _answer(self, status: int, content: bytes | Any = b"", kind: str = "application/json", **headers: str) -> None:
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_unknown(self, *_: str) -> None:
        self._answer(404, {"error": "no such thing"})

    def answer_echo(self, *_: str) -> None:
        self._answer(200, self.asked)

    def answer_result(self, *_: str) -> None:
        self._answer(200, {"volume": 712.5, "label": "ok", "data": {"parts": [{"id": 7}]}})

    def answer_status(self, status: str) -> None:
        self._answer(int(status), {"secret": "Doe^Jane"})

    def answer_slow(self, seconds: str) -> None:
        time.sleep(float(seconds))
        self._answer(200, {"slow": True})

    def answer_slowfirst(self, name: str, seconds: str) -> None:
        """So slow the first time, then at once."""
        if self._count(f"slowfirst/{name}") == 1:
            time.sleep(float(seconds))
        self._answer(200, {"slow": True})

    def answer_drop(self, *_: str) -> None:
        self.close_connection = True
        self.connection.close()

    def answer_half(self, *_: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"a":')
        self.close_connection = True

    def answer_flaky(self, name: str, status: str = "500") -> None:
        """That status the first time, then well."""
        first = self._count(f"flaky/{name}") == 1
        headers = {"Retry_After": "1"} if status in ("429", "503") else {}
        self._answer(int(status), {}, **headers) if first else self._answer(200, {"volume": 3})

    def answer_big(self, size: str) -> None:
        self._answer(200, b"x" * int(size), "text/plain")

    def answer_raw(self, *rest: str) -> None:
        """The query's ``body``, of the kind of ``type``."""
        query = dict(self.asked["query"])
        self._answer(200, query.get("body", "").encode(), query.get("type", "application/json"))

    def answer_redirect(self, status: str = "302") -> None:
        self._answer(int(status), b"", Location=dict(self.asked["query"])["to"])

    def answer_loop(self, number: str = "0") -> None:
        self._answer(302, b"", Location=f"/loop/{int(number) + 1}")

    def answer_started(self, seconds: str) -> None:
        found = [name for name, job in list(self.jobs.items()) if job.get("seconds") == float(seconds)]
        self._answer(200, [f"/jobs/{name}" for name in found])

    def answer_jobs(self, job: str = "", part: str = "") -> None:
        """POST starts a job that ends as its body says, after so many seconds or by /finish; GET tells its status."""
        if self.command == "POST" and not job:
            self._start_job()
        elif job not in self.jobs:
            self._answer(404, {})
        elif self.command == "DELETE":
            self.jobs[job]["cancelled"] = True
            self._answer(200, {})
        elif part == "finish":
            self.jobs[job]["seconds"] = 0
            self._answer(200, {})
        elif part == "result":
            self._answer(200, {"volume": 99, "number": self.jobs[job]["number"]})
        else:
            self._answer(200, {"job": {"state": _state(self.jobs[job])}, "progress": 0.5})

    def _start_job(self) -> None:
        wanted = json.loads(self.asked["body"] or "{}")
        key = self.asked["headers"].get("idempotency-key", "")
        with self.lock:
            job = self.keys.get(key) or f"j{len(self.jobs) + 1}"
            if key:
                self.keys[key] = job
            is_new = job not in self.jobs
            self.jobs.setdefault(job, {"started": time.time(), "number": len(self.jobs) + 1, **wanted})
        if is_new:
            time.sleep(float(wanted.get("start_seconds", 0)))
        self._answer(202, {"job": {"id": job}}, Location=f"/jobs/{job}")

    def log_message(self, *_: object) -> None:
        pass


def _state(job: dict[str, Any]) -> str:
    if job.get("cancelled"):
        return "Cancelled"
    return job.get("end", "Done") if time.time() - job["started"] > job.get("seconds", 0) else "Running"


if __name__ == "__main__":
    _Handler.log_file = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), _Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
