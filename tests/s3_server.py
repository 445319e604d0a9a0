"""A server that speaks S3, for tests: moto's, in a process of its own on the loopback, empty at its start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.store.s3 import S3Store
from airflow_monai.store.s3_access import S3Access, client_of
from tests.conftest import require

KEY = "testing"
_SERVER = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def one_at_a_time(environ, start_response):
    # moto looks and writes in two steps: its conditional writes hold only if nothing comes in between
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length:
        import io
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
    with lock:
        return [b"".join(moto(environ, start_response))]

server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


@dataclass(frozen=True)
class S3Server:
    """A running server.

    :param url: its endpoint.
    """

    url: str
    pid: int

    @property
    def access(self) -> S3Access:
        return S3Access(endpoint=self.url, key_id=KEY, secret=KEY, region="us-east-1", path_style=True)

    @property
    def connection(self) -> str:
        """The server as an Airflow connection in JSON, for ``AIRFLOW_CONN_<NAME>``."""
        extra = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": KEY, "password": KEY, "extra": extra})

    def client(self) -> Any:
        return client_of(self.access)

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"test-{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name

    def store(self, folder: Path, prefix: str = "site") -> S3Store:
        """A store in a bucket of its own, with what it needs of this host below ``folder``."""
        return S3Store(f"s3://{self.bucket()}/{prefix}", self.access, folder / "spool")


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """moto's server, ended with the block."""
    with open(folder / "s3-server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"moto's server did not start: {(folder / 's3-server.log').read_text()[-2000:]}")
        _wait(int(port))
        yield S3Server(f"http://127.0.0.1:{int(port)}", process.pid)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests of a run; each makes buckets of its own."""
    require("moto")
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def _wait(port: int) -> None:
    end = time.monotonic() + 90
    while True:
        with socket.socket() as sock:
            sock.settimeout(0.5)
            if not sock.connect_ex(("127.0.0.1", port)):
                return
        if time.monotonic() > end:
            raise RuntimeError("moto's server does not listen")
        time.sleep(0.05)
