"""A real SMTP server for tests, whose answers a test may choose."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller

from airflow_monai.local.ports import choose


@dataclass
class Mailbox:
    """What a server got, and what it shall answer.

    :param refuse: address -> reply to it as a recipient.
    :param answer: reply to the text; empty: the connection ends without one, with the text kept.
    """

    port: int = 0
    refuse: dict[str, str] = field(default_factory=dict)
    answer: str = "250 kept"
    arrived: list[tuple[tuple[str, ...], Message]] = field(default_factory=list)
    seen: threading.Event = field(default_factory=threading.Event)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if not self.answer.startswith(("4", "5")):
            message = message_from_bytes(envelope.content, policy=default)
            self.arrived.append((tuple(envelope.rcpt_tos), message))
            self.seen.set()
        if not self.answer:
            server.transport.abort()
        return self.answer or "250 never read"

    @property
    def connection(self) -> str:
        """An Airflow connection to it, as an environment variable has it."""
        extra = {"from_email": "monai@hospital.example", "disable_tls": True, "disable_ssl": True, "timeout": 20}
        return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": self.port, "extra": extra})

    @property
    def recipients(self) -> list[str]:
        """Who has got something, as often as they have."""
        return [address for addresses, _ in self.arrived for address in addresses]


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A server on a free port of this host."""
    box = Mailbox(choose(0))
    controller = Controller(box, hostname="127.0.0.1", port=box.port, ready_timeout=60)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
