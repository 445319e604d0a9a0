"""A small registry of container images as a real HTTP server: it serves one image, made of one file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass
class Registry:
    """What it serves; ``pulls`` counts how often somebody asked for a manifest.

    :param answers: name of an image -> HTTP status that it is refused with.
    :param seconds: how long each kilobyte of a layer takes; ``sending`` counts answers that are on their way.
    :param login: ``user:password`` that everybody has to give; empty for none.
    """

    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    pulls: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    sending: int = 0
    login: str = ""

    def publish(self, name: str, content: bytes, *, command: list[str]) -> str:
        """An image that holds ``/content``; its reference."""
        layer = _tar("content", content)
        config = {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        described = self._blob(json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **described},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar", **self._blob(layer)}],
        }
        self.manifests[name] = json.dumps(manifest).encode()
        return f"127.0.0.1:{self.port}/{name}:1"

    def _blob(self, data: bytes) -> dict[str, object]:
        self.blobs[_digest(data)] = data
        return {"digest": _digest(data), "size": len(data)}


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _tar(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o644
        tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry on a port of this host, which engines take without TLS because it is on the loopback."""
    served, lock = Registry(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            refused = served.answers.get("/".join(parts[1:-2]))
            if served.login and self.headers.get("Authorization") != _basic(served.login):
                self._refuse(401)
            elif refused:
                self._refuse(refused)
            elif parts == ["v2"]:
                self._answer(b"{}", "application/json")
            elif parts[-2] == "manifests":
                served.pulls += 1
                body = served.manifests.get("/".join(parts[1:-2])) or _by_digest(served, parts[-1])
                self._answer(body, MANIFEST)
            else:
                self._answer(served.blobs.get(parts[-1]), "application/octet-stream")

        do_HEAD = do_GET

        def _refuse(self, status: int) -> None:
            code = {401: "UNAUTHORIZED", 403: "DENIED"}.get(status, "UNAVAILABLE")
            body = json.dumps({"errors": [{"code": code, "message": f"{code.lower()}, as asked"}]}).encode()
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="tests"')
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _answer(self, body: bytes | None, kind: str) -> None:
            found = body is not None
            body = (
                body or json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode()
            )
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.end_headers()
            if self.command == "GET":
                self._send(body)

        def _send(self, body: bytes) -> None:
            step = 1024 if served.seconds else max(1, len(body))
            with lock:
                served.sending += 1
            with suppress(OSError):  # an engine that gives up hangs up
                for start in range(0, len(body), step):
                    self.wfile.write(body[start : start + step])
                    time.sleep(served.seconds)
            with lock:
                served.sending -= 1

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _by_digest(served: Registry, digest: str) -> bytes | None:
    return next((body for body in served.manifests.values() if _digest(body) == digest), None)
