"""A real RabbitMQ for tests: a node of its own on free ports of the loopback, which may be killed and started again.

Each node has a name server for Erlang (epmd) of its own, so that it meets no other node of this host.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika

from airflow_monai.broker.base import BrokerAddress
from tests.pacs import free_port

logging.getLogger("pika").setLevel(logging.CRITICAL)

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in /usr/sbin changes the user
DEAD = "-dead-letter"


@dataclass
class RabbitNode:
    """A node.

    :param tls: folder with ``ca.pem``, ``cert.pem`` and ``key.pem``; None for no TLS.
    """

    folder: Path
    tls: Path | None = None
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    epmd_port: int = field(default_factory=free_port)
    dist_port: int = field(default_factory=free_port)
    name: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}@localhost")
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again with what it had, and wait until it takes logins."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "rabbitmq.conf"
        lines = ["loopback_users = none", "log.console = false", f"listeners.tcp.1 = 127.0.0.1:{self.port}"]
        lines += ["vm_memory_high_watermark.relative = 0.3", "disk_free_limit.absolute = 50MB"]
        if self.tls:
            lines += [f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}"]
            lines += [f"ssl_options.cacertfile = {self.tls}/ca.pem", f"ssl_options.certfile = {self.tls}/cert.pem"]
            lines += [f"ssl_options.keyfile = {self.tls}/key.pem"]
        config.write_text("\n".join(lines) + "\n")
        environment = {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }
        with open(self.folder / "out", "ab") as out:
            self.process = subprocess.Popen(
                [str(PROGRAM)], stdout=out, stderr=out, env=environment, start_new_session=True, cwd=self.folder
            )
        end = time.monotonic() + 180
        while True:
            with suppress(Exception):
                self.connect().close()
                return
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"RabbitMQ did not start: {(self.folder / 'out').read_text()[-3000:]}")
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        end = time.monotonic() + 30
        while _listens(self.port) and time.monotonic() < end:
            time.sleep(0.05)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it do nothing at all for a while, as a host that swaps."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it for good, with its name server."""
        if self.process is not None:
            self.kill()
        epmd = shutil.which("epmd")
        if epmd:
            environment = {**os.environ, "ERL_EPMD_PORT": str(self.epmd_port)}
            subprocess.run([epmd, "-kill"], env=environment, capture_output=True, timeout=20)

    def connect(self, virtual_host: str = "/") -> pika.BlockingConnection:
        """A plain client, apart from ours."""
        credentials = pika.PlainCredentials("guest", "guest")
        parameters = pika.ConnectionParameters(
            "127.0.0.1", self.port, virtual_host, credentials, heartbeat=0, socket_timeout=20, stack_timeout=40
        )
        return pika.BlockingConnection(parameters)

    def address(self, exchange: str, **extra: Any) -> BrokerAddress:
        """The node as our code is told of it; each test has an exchange of its own."""
        return BrokerAddress(
            "test_broker", "monai_rabbitmq", "127.0.0.1", self.port, "guest", "guest", "/",
            {"exchange": exchange, **extra},
        )  # fmt: skip

    def airflow_connection(self, exchange: str, conn_type: str = "monai_rabbitmq", **extra: Any) -> str:
        """The same in JSON, for ``AIRFLOW_CONN_<NAME>``."""
        return json.dumps(
            {
                "conn_type": conn_type,
                "host": "127.0.0.1",
                "port": self.port,
                "login": "guest",
                "password": "guest",
                "extra": {"exchange": exchange, **extra},
            }
        )

    def drain(self, queue: str) -> list[tuple[Any, bytes]]:
        """(properties, body) of all messages of a queue, taken out."""
        connection = self.connect()
        try:
            channel = connection.channel()
            found = []
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return found
                found.append((properties, body))
        finally:
            connection.close()

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue; those that somebody holds do not count."""
        connection = self.connect()
        try:
            return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
        finally:
            connection.close()

    def purge(self, *queues: str) -> None:
        """Remove queues that other tests may have left."""
        connection = self.connect()
        try:
            channel = connection.channel()
            for queue in queues:
                channel.queue_delete(queue)
                channel.queue_delete(f"{queue}{DEAD}")
        finally:
            connection.close()


@contextmanager
def rabbitmq(folder: Path, tls: Path | None = None) -> Iterator[RabbitNode]:
    node = RabbitNode(folder, tls)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(0.5)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def make_certificates(folder: Path) -> Path:
    """An authority, and a certificate of it for localhost."""
    folder.mkdir(parents=True)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    commands = [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca-key.pem -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile names -out cert.pem",
    ]
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder
