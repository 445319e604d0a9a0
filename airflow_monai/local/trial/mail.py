"""Takes the e-mails of a trial and keeps them as files: nothing is sent to anybody."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.header import decode_header, make_header
from pathlib import Path

MAX_BYTES = 64 * 2**20
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Mail:
    """One e-mail that would have been sent."""

    file: Path
    to: tuple[str, ...]
    subject: str


@dataclass(slots=True)
class MailDesk:
    """An SMTP server (RFC 5321) on the loopback interface, for as much as Airflow's hook says.

    :param folder: where e-mails go; made with the first one.
    """

    folder: Path
    mails: list[Mail] = field(default_factory=list)
    _server: socketserver.ThreadingTCPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> int:
        """Listen; the port."""
        handler = type("Handler", (_Conversation,), {"desk": self})
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def take(self, to: tuple[str, ...], data: bytes) -> None:
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{len(self.mails) + 1:03d}.eml"
            path.write_bytes(data)
            subject = str(make_header(decode_header(str(message_from_bytes(data).get("Subject", "")))))
            self.mails.append(Mail(path, to, " ".join(subject.split())))


class _Conversation(socketserver.StreamRequestHandler):
    """One connection."""

    desk: MailDesk

    def handle(self) -> None:
        self._say("220 trial")
        to: list[str] = []
        while line := self.rfile.readline(4096):
            words = line.decode("latin-1").strip()
            verb = words[:4].upper()
            if verb == "QUIT":
                self._say("221 bye")
                return
            if verb == "DATA":
                self._say("354 go on")
                self.desk.take(tuple(to), self._data())
            elif verb == "RCPT":
                to.append(words.partition(":")[2].split(">")[0].strip(" <>"))
            elif verb in ("MAIL", "RSET"):
                to.clear()
            self._say("250 ok")

    def _data(self) -> bytes:
        found: list[bytes] = []
        size = 0
        while (line := self.rfile.readline(2**20)) and line not in (b".\r\n", b".\n"):
            size += len(line)
            if size <= MAX_BYTES:
                found.append(line[1:] if line.startswith(b"..") else line)
        return b"".join(found)

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
