"""What a connection says of a KubeMQ, and asking it one thing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from airflow_monai.broker.base import BrokerAddress, Message
from airflow_monai.broker.kubemq import wire
from airflow_monai.broker.texts import texts_of
from airflow_monai.errors import BrokerError, BrokerMisused
from airflow_monai.tls import client_context

CONFIRM_SECONDS = 10.0
CONNECT_SECONDS = 15.0
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 100 * 1024 * 1024),
    ("grpc.max_send_message_length", 100 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
)
_MISUSED = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)
_NUMBERED = re.compile(r"Error (\d{3})\b")
_NOT_ALLOWED = range(412, 425)
_NOT_VALID = (*range(101, 121), 122, *range(131, 137))
_TOO_LARGE = "larger than max"
"""What both gRPC's client and KubeMQ's server say of a message that is longer than their limit."""


@dataclass(frozen=True, slots=True)
class KubeMqOptions:
    """What a connection says of a KubeMQ.

    :param client_id: what the server's rules and its dashboard know us by.
    :param metadata: of each call: the token.
    :param tls: None for none.
    :param prefetch: how many messages of a queue a gateway may hold at a time.
    """

    target: str
    client_id: str
    metadata: tuple[tuple[str, str], ...]
    tls: grpc.ChannelCredentials | None
    prefetch: int
    delivery_limit: int

    @classmethod
    def of(cls, address: BrokerAddress) -> KubeMqOptions:
        """:raises BrokerMisused: when the connection cannot be used."""
        if not address.host:
            raise address.error("it has no host")
        return cls(
            target=f"{address.host}:{address.port or 50000}",
            client_id=address.text("client_id", "airflow-monai"),
            metadata=(("authorization", address.password),) if address.password else (),
            tls=_tls(address),
            prefetch=address.number("prefetch", 50, 1, 200),
            delivery_limit=address.number("delivery_limit", 20, 1, 10_000),
        )


def _tls(address: BrokerAddress) -> grpc.ChannelCredentials | None:
    if not address.flag("tls"):
        return None
    ca_file, cert = address.text("ca_file"), address.client_certificate()
    names = (ca_file, cert[-1], cert[0]) if cert else (ca_file,)
    try:
        client_context(ca_file or True, cert)  # of files that are none gRPC would say only that it cannot connect
        return grpc.ssl_channel_credentials(*(Path(name).read_bytes() if name else None for name in names))
    except (OSError, ValueError) as error:
        said = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
        raise address.error(f"its certificates cannot be used ({said})") from None


class Access:
    """A KubeMQ server or cluster."""

    def __init__(self, address: BrokerAddress):
        self.address = address
        self.options = KubeMqOptions.of(address)

    def calls(self) -> wire.Calls:
        """A connection, which is made when it is first used, and again when it is lost."""
        options = self.options
        if options.tls is None:
            return wire.Calls(grpc.insecure_channel(options.target, _CHANNEL_OPTIONS))
        return wire.Calls(grpc.secure_channel(options.target, options.tls, _CHANNEL_OPTIONS))

    def asked(self, call: Any, request: Any, seconds: float) -> Any:
        """The answer to one request.

        :raises BrokerError: when there is none.
        """
        try:
            return call(request, timeout=seconds, metadata=self.options.metadata)
        except grpc.RpcError as error:
            raise self.as_ours(error, request) from None
        except ValueError:  # the channel was closed
            raise self.address.away("the connection was closed") from None

    def send(self, calls: wire.Calls, topic: str, message: Message, headers: Mapping[str, str]) -> Any:
        """Write a message, and return what KubeMQ has said of it when it lies there.

        :raises BrokerError: when it does not.
        """
        tags = {**texts_of(message), **headers}
        content = {
            "ClientID": self.options.client_id,
            "Channel": topic,
            "Metadata": _sound(message.type or "message"),  # a message without a body needs one
            "Body": message.body,
            "Tags": {_sound(name): _sound(value) for name, value in tags.items()},
        }
        if message.needs_queue:
            request = wire.QueueMessage(MessageID=_sound(message.message_id), **content)
            said = self.asked(calls.send_message, request, CONFIRM_SECONDS)
            good = not said.IsError
        else:
            event = wire.Event(EventID=_sound(message.message_id), Store=True, **content)
            said = self.asked(calls.send_event, event, CONFIRM_SECONDS)
            good = said.Sent
        if not good:
            raise self.refused(said.Error)
        return said

    def refused(self, said: str) -> BrokerError:
        """What the server says that is wrong, as an error of ours; what a person has to correct is misuse."""
        said = said.strip().rstrip(".")[:200]
        found = _NUMBERED.search(said)
        if found and int(found[1]) in (*_NOT_ALLOWED, *_NOT_VALID):
            return BrokerMisused(
                f"Broker {self.address.name}: KubeMQ refuses: {said}. Correct the topic, or what the client id "
                f"{self.options.client_id!r} may do there."
            )
        return self.address.away(f"KubeMQ could not do it: {said}")

    def as_ours(self, error: grpc.RpcError, request: Any = None) -> BrokerError:
        """An error of the client's as one of ours.

        :param request: what was asked, None for a stream.
        """
        code = error.code() if isinstance(error, grpc.Call) else None
        said = (error.details() or "") if isinstance(error, grpc.Call) else type(error).__name__
        if _NUMBERED.search(said) and code is not grpc.StatusCode.UNAUTHENTICATED:
            return self.refused(said)
        said = said.strip().rstrip(".")[:200]
        if code in _MISUSED:
            return self.address.error(f"KubeMQ refuses: {said}")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self._exhausted(said, request)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return self.address.away(f"KubeMQ at {self.options.target} has not answered in time")
        return self.address.away(f"KubeMQ at {self.options.target} cannot be reached: {said}")

    def _exhausted(self, said: str, request: Any) -> BrokerError:
        """A message that is too large, which it stays however often it is sent; or a limit that is there for a time."""
        if _TOO_LARGE not in said:
            return self.address.away(f"KubeMQ has reached a limit of its own, and takes nothing now: {said}")
        if request is None:  # what we ask for by a stream is short
            return BrokerMisused(
                f"Broker {self.address.name}: a message that waits there is too large to be taken: {said}. Remove it "
                "from its queue; nothing behind it can come before. Whoever sent it must send less."
            )
        return BrokerMisused(
            f"Broker {self.address.name}: a message of {request.ByteSize()} bytes is too large for KubeMQ: {said}. "
            "Raise GRPC_BODY_LIMIT of the server (4 MiB where nothing is set)."
        )


def _sound(text: str) -> str:
    """A text without what cannot be written in UTF-8, which half of a pair of surrogates cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
