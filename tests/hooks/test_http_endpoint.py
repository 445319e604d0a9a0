"""What an Airflow connection of type HTTP comes to, and TLS against a real server."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_monai.errors import InvalidArgument
from airflow_monai.hooks.http_client import HttpClient, HttpRequest, NotSent
from airflow_monai.hooks.http_endpoint import Endpoint, endpoint_from
from airflow_monai.hooks.http_hosts import HostRules


def endpoint(extra: dict[str, Any] | None = None, **fields: Any) -> Endpoint:
    return endpoint_from(Connection(conn_id="ai", conn_type="http", **fields), extra or {})


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "ai.example"}, "http://ai.example"),
        ({"host": "ai.example", "schema": "https", "port": 8443}, "https://ai.example:8443"),
        ({"host": "https://ai.example/base/"}, "https://ai.example/base"),
        ({"host": "https://ai.example:1", "port": 2}, "https://ai.example:2"),
        ({"host": "http://[::1]", "port": 80}, "http://[::1]:80"),
    ],
)
def test_address(fields: dict[str, Any], url: str) -> None:
    assert endpoint(**fields).url == url


def test_a_connection_without_a_host() -> None:
    with pytest.raises(InvalidArgument, match="'ai' has no host"):
        endpoint()


def test_rights() -> None:
    extra = {"X-Key": "a", "headers": {"X-Other": "b"}, "verify": False, "timeout": 3, "proxy": "http://p"}
    found = endpoint(extra, host="https://ai.example", login="ann", password="pw")
    assert found.headers == {"X-Key": "a", "X-Other": "b", "Authorization": "Basic YW5uOnB3"}
    assert found.verify is False and found.proxy == "http://p"
    assert "pw" not in repr(found) and "YW5uOnB3" not in repr(found)
    assert endpoint({"Authorization": "Bearer t"}, host="x", password="pw").headers == {"Authorization": "Bearer t"}


@pytest.mark.parametrize(
    ("url", "has"),
    [
        ("https://ai.example/x", True),
        ("https://AI.example:443/x", True),
        ("http://ai.example/x", False),
        ("https://ai.example:444/x", False),
        ("https://ai.example.evil/x", False),
    ],
)
def test_only_its_own_host_gets_them(url: str, has: bool) -> None:
    assert bool(endpoint({"X-Key": "a"}, host="https://ai.example").headers_for(url)) is has


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Port of a TLS server for ``localhost``, and the file of its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    san = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*words, *san], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], cert
    server.shutdown()


def status_of(port: int, host: str, **fields: Any) -> int:
    client = HttpClient(replace(Endpoint(), **fields), HostRules())
    request = HttpRequest("HEAD", f"https://{host}:{port}/", "HEAD /", timeout=60)
    return asyncio.run(client.send(request)).status


def test_certificates_are_checked(tls: tuple[int, Path]) -> None:
    port, cert = tls
    with pytest.raises(NotSent):
        status_of(port, "localhost")
    assert status_of(port, "localhost", verify=str(cert)) == 200
    with pytest.raises(NotSent):
        status_of(port, "127.0.0.1", verify=str(cert))  # the certificate is for another name
    assert status_of(port, "127.0.0.1", verify=False) == 200


def test_a_certificate_file_that_is_not_there(tls: tuple[int, Path]) -> None:
    with pytest.raises(InvalidArgument, match="verify or cert"):
        status_of(tls[0], "localhost", verify="/no/such.pem")
