"""A Docker engine of a test's own, which it may stop, kill, start again and reach over TLS; never the shared one."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker

from tests.pacs import free_port

SHELL = "shell:1"
"""An image with a shell, ``sleep`` and ``cat``, made of this host's."""


@dataclass
class OwnEngine:
    """
    :param tls: folder with ``ca.pem``, ``cert.pem``, ``key.pem`` and the engine's own pair; None for a socket only.
    :param driver: ``vfs`` works everywhere and copies an image for each container; ``overlay2`` is quick.
    :param programs: folder of programs that it finds before the host's.
    """

    folder: Path
    tls: Path | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    started: int = 0
    bridge: str = ""
    driver: str = "vfs"
    programs: Path | None = None

    @property
    def socket(self) -> str:
        return f"unix://{self.folder}/d.sock"

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}" if self.tls else self.socket

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command += ["--pidfile", f"{self.folder}/pid", "-H", self.socket, "--storage-driver", self.driver]
        # a bridge of its own: without any, an engine removes docker0, which is the shared one's
        command += ["--bridge", self._bridge(), "--iptables=false", "--ip6tables=false"]
        if self.tls:
            self.port = self.port or free_port()
            pair = ["--tlscacert", "ca.pem", "--tlscert", "server.pem", "--tlskey", "server-key.pem"]
            files = [word if word.startswith("--") else f"{self.tls}/{word}" for word in pair]
            command += ["-H", self.url, "--tlsverify", *files]
        environment = {**os.environ, "PATH": f"{self.programs or '/usr/bin'}:{os.environ['PATH']}"}
        with open(self.folder / f"log{self.started}", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self.started += 1
        self._wait()

    def _bridge(self) -> str:
        if not self.bridge:
            number = secrets.randbelow(5000)
            self.bridge = f"test-{secrets.token_hex(4)}"
            subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
            subprocess.run(
                ["ip", "addr", "add", f"10.{200 + number // 250}.{number % 250}.1/24", "dev", self.bridge], check=True
            )
        return self.bridge

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            with suppress(Exception):
                client = self.client()
                client.ping()
                client.close()
                return
            assert self.process and self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def log(self) -> str:
        return (self.folder / f"log{max(0, self.started - 1)}").read_text()[-3000:]

    def client(self) -> docker.APIClient:
        return docker.APIClient(base_url=self.socket, version="1.41", timeout=60)

    def stop(self) -> None:
        """End it as a system does that shuts down."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, sent: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(sent)
        self.process.wait(90)
        self.process = None
        if sent == signal.SIGKILL:  # what it had started goes with it, but for the containers and their keepers
            (self.folder / "pid").unlink(missing_ok=True)
            self._end_containerd(signal.SIGKILL)

    def _end_containerd(self, sent: signal.Signals) -> None:
        file = self.folder / "exec/containerd/containerd.pid"
        with suppress(OSError, ValueError):
            os.kill(pid := int(file.read_text()), sent)
            end = time.monotonic() + 20
            while _runs(pid) and time.monotonic() < end:
                time.sleep(0.05)
        file.unlink(missing_ok=True)  # where nobody reaps the dead, the number would seem to be alive

    def containers(self) -> list[str]:
        client = self.client()
        try:
            return [item["Names"][0] for item in client.containers(all=True)]
        finally:
            client.close()

    def load_shell(self) -> None:
        client = self.client()
        client.import_image_from_data(_shell_image(), repository="shell", tag="1")
        client.close()

    def remove(self) -> None:
        """End it and all that it left."""
        if self.process is not None:
            with suppress(Exception):
                client = self.client()
                for item in client.containers(all=True):
                    client.remove_container(item["Id"], force=True)
                client.close()
            self.stop()
        self._end_containerd(signal.SIGTERM)  # there is one where the engine was killed
        for line in Path("/proc/mounts").read_text().splitlines():
            if (target := line.split()[1]).startswith(str(self.folder)):
                subprocess.run(["umount", "-l", target], capture_output=True)
        if self.bridge:
            subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def make_certificates(folder: Path) -> Path:
    """An authority, and a pair for the engine at 127.0.0.1 and one for its clients."""
    folder.mkdir(parents=True)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "rsa:2048", "-nodes"]
    openssl(
        "req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-authority"
    )
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for name, pair, extension in (("server-key", "server", "server.ext"), ("key", "cert", "client.ext")):
        openssl("req", *key, "-keyout", f"{name}.pem", "-out", "request.pem", "-subj", f"/CN={pair}")
        openssl(
            *["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"],
            *["-out", f"{pair}.pem", "-days", "2", "-extfile", extension],
        )
    return folder


def _shell_image() -> bytes:
    """A shell and two programs with the libraries that they need."""
    programs = {"/bin/sh": os.path.realpath("/bin/sh"), "/bin/sleep": "/bin/sleep", "/bin/cat": "/bin/cat"}
    libraries = {}
    for program in programs.values():
        for line in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines():
            if path := next((word for word in line.split() if word.startswith("/")), None):
                libraries[path] = os.path.realpath(path)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for folder in ("bin", "lib", "lib64", "lib/x86_64-linux-gnu", "usr", "usr/lib", "usr/lib/x86_64-linux-gnu"):
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(made)
        for name, path in {**programs, **libraries}.items():
            data = Path(path).read_bytes()
            info = tarfile.TarInfo(name.lstrip("/"))
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()
