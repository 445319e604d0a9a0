"""A DICOMweb server under a test's control: it stores, tells what it has, and misbehaves as it is told."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_monai.sinks.base import Destination

JSON = "application/dicom+json"


@dataclass
class Reply:
    """An answer to a request.

    :param status: 0 hangs up without a word.
    :param stored: whether the server keeps what came.
    """

    status: int = 200
    content: bytes = b""
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    stored: bool = False


@dataclass
class StowServer:
    """What the server has, and what it was asked.

    :param requests: SOP Instance UIDs of each STOW-RS request, whatever became of it.
    :param stored: SOP Instance UID -> (Study Instance UID, how often it was stored, as another object).
    :param queries: paths of QIDO-RS requests.
    :param has_queries: whether it does QIDO-RS; ``page`` instances at most at a time.
    :param authorization: what it wants to see, empty for nothing.
    :param read_delay: seconds before each read of 64 KiB.
    """

    port: int = 0
    scheme: str = "http"
    requests: list[list[str]] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
    has_queries: bool = True
    page: int = 1000
    authorization: str = ""
    seen_authorization: list[str] = field(default_factory=list)
    tokens: deque[str] = field(default_factory=deque)
    token_requests: list[dict[str, Any]] = field(default_factory=list)
    cut_after: int = 0
    read_delay: float = 0.0
    most_at_a_time: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def destination(self, **extra: Any) -> Destination:
        login, password = extra.pop("login", ""), extra.pop("password", "")
        extra = {"path": "/dicom-web", "connect_timeout": 10, "response_timeout": 15, **extra}
        return Destination(
            "WEB", "monai_dicomweb", "127.0.0.1", self.port, extra, schema=self.scheme, login=login, password=password
        )

    def store(self, parts: Sequence[tuple[str, str]]) -> None:
        with self.lock:
            self.stored.update(parts)


Behaviour = Callable[[StowServer, list[tuple[str, str]]], Reply]
"""Called with (SOP Instance UID, Study Instance UID) of each part of a request: what to answer."""


def report(
    stored: Sequence[str] = (), failed: dict[str, int] | None = None, warned: dict[str, int] | None = None
) -> bytes:
    """The body of an answer, in DICOM JSON."""
    fine = [_item(uid) for uid in stored]
    fine += [_item(uid) | {"00081196": {"vr": "US", "Value": [reason]}} for uid, reason in (warned or {}).items()]
    bad = [_item(uid) | {"00081197": {"vr": "US", "Value": [reason]}} for uid, reason in (failed or {}).items()]
    data = {"00081199": {"vr": "SQ", "Value": fine}, "00081198": {"vr": "SQ", "Value": bad}}
    return json.dumps({tag: element for tag, element in data.items() if element["Value"]}).encode()


def _item(uid: str) -> dict[str, Any]:
    return {"00081155": {"vr": "UI", "Value": [uid]}}


def good(server: StowServer, parts: list[tuple[str, str]]) -> Reply:
    """Store everything and say so."""
    return Reply(200, report([uid for uid, _ in parts]), stored=True)


@contextmanager
def stow_server(behave: Behaviour = good, tls: ssl.SSLContext | None = None) -> Iterator[StowServer]:
    """A server on a free port of the loopback."""
    state = StowServer(scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.path == "/token":
                self._give_token()
                return
            state.seen_authorization.append(self.headers.get("Authorization", ""))
            with state.lock:
                state.under_way += 1
                state.most_at_a_time = max(state.most_at_a_time, state.under_way)
            try:
                self._take()
            finally:
                with state.lock:
                    state.under_way -= 1

        def _take(self) -> None:
            body = self._body()
            if body is None:
                return
            if state.authorization and self.headers.get("Authorization") != state.authorization:
                self._answer(Reply(401))
                return
            assert self.path == "/dicom-web/studies", self.path
            boundary = re.search(r"boundary=([^;\s]+)", self.headers["Content-Type"])
            assert boundary and 'type="application/dicom"' in self.headers["Content-Type"]
            parts = _parts(body, boundary[1].encode())
            state.requests.append([uid for uid, _ in parts])
            reply = behave(state, parts)
            if reply.stored:
                state.store(parts)
            self._answer(reply)

        def _body(self) -> bytes | None:
            left, read = int(self.headers["Content-Length"]), bytearray()
            while left:
                if state.read_delay:
                    time.sleep(state.read_delay)
                read += (piece := self.rfile.read(min(65_536, left)))
                left -= len(piece)
                if state.cut_after and len(read) >= state.cut_after:
                    state.cut_after = 0
                    self.close_connection = True
                    return None
                if not piece:
                    return None
            return bytes(read)

        def do_GET(self) -> None:
            state.queries.append(self.path)
            state.seen_authorization.append(self.headers.get("Authorization", ""))
            if not state.has_queries:
                self._answer(Reply(404, b"no such thing", "text/plain"))
                return
            if state.authorization and self.headers.get("Authorization") != state.authorization:
                self._answer(Reply(401))
                return
            parts = urlsplit(self.path)
            wanted = parse_qs(parts.query)
            study = parts.path.split("/")[3] if parts.path.count("/") > 2 else ""
            uids = sorted(uid for uid, place in state.stored.items() if place == study)
            uids = [uid for uid in uids if uid in wanted.get("SOPInstanceUID", [uid])]
            start = int(wanted.get("offset", ["0"])[0])
            limit = min(int(wanted.get("limit", ["1000"])[0]), state.page)
            found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids[start : start + limit]]
            self._answer(Reply(200, json.dumps(found).encode()) if found else Reply(204))

        def do_OPTIONS(self) -> None:
            self._answer(Reply(200))

        def _give_token(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            asked = {name: values[0] for name, values in form.items()}
            state.token_requests.append(asked | {"authorization": self.headers.get("Authorization", "")})
            if not state.tokens:
                self._answer(Reply(400, b'{"error": "invalid_client"}', "application/json"))
                return
            answer = {"access_token": state.tokens.popleft(), "token_type": "Bearer", "expires_in": 3600}
            self._answer(Reply(200, json.dumps(answer).encode(), "application/json"))

        def _answer(self, reply: Reply) -> None:
            if not reply.status:
                self.close_connection = True
                return
            with suppress(OSError):
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.content:
                    self.send_header("Content-Type", reply.media_type)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _parts(body: bytes, boundary: bytes) -> list[tuple[str, str]]:
    from pydicom import dcmread

    assert body.endswith(b"\r\n--" + boundary + b"--\r\n")
    found = []
    for part in body.split(b"--" + boundary + b"\r\n")[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        assert head == b"Content-Type: application/dicom"
        content = content.removesuffix(b"--" + boundary + b"--\r\n").removesuffix(b"\r\n")
        ds = dcmread(BytesIO(content), specific_tags=["SOPInstanceUID", "StudyInstanceUID", "PixelData"])
        found.append((str(ds.SOPInstanceUID), str(ds.StudyInstanceUID)))
    return found
