"""A KubeMQ server for tests, by gRPC: it stands in for KubeMQ's own, which cannot be had in tests.

It is made after the protocol's published definition, the documentation of queues (docs.kubemq.io) and what the
published source of the community server does: a request of a stream waits for the one before it, an acknowledgement is
answered only when it is wrong, a transaction with room left takes messages that nobody is shown, and what is not
acknowledged goes back to its place when its stream ends. It speaks by the messages of ours; their numbers are checked
in tests/broker/test_kubemq.py. All is in memory, and stays there while the server is stopped. It waits less than the
second that KubeMQ waits at least, where it is told so.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from airflow_monai.broker.base import BrokerAddress
from airflow_monai.broker.kubemq import wire
from airflow_monai.local.ports import choose

BODY_LIMIT = 4 * 1024**2


@dataclass
class Transaction:
    """Messages that one request was given, how many more it may be given, and those of them that nobody was shown."""

    channel: str
    room: int
    held: dict[int, Any] = field(default_factory=dict)
    unseen: dict[int, Any] = field(default_factory=dict)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    is_open: bool = True


class KubeMqServer:
    """
    :param token: that callers must have; ``denied``: begins the names of queues that none may use.
    :param tls: folder with ``cert.pem`` and ``key.pem``.
    """

    def __init__(self, token: str = "", denied: str = "", tls: Path | None = None, least_wait: float = 0.1) -> None:
        self.token, self.denied, self.tls, self.least_wait = token, denied, tls, least_wait
        self.lock = threading.Condition()
        self.waiting: dict[str, dict[int, Any]] = {}
        self.events: list[Any] = []
        self.transactions: list[Transaction] = []
        self.sequence = 0
        self.broken = False
        """Whether it takes no messages, as with a disk that is full."""
        self.loses_acknowledgements_of: str | None = None
        """A queue whose acknowledgements it refuses, as where it has forgotten their transaction."""
        self.busy = False
        """Whether it answers that it has reached a limit."""
        self.port = 0
        self.server: grpc.Server | None = None

    def start(self) -> None:
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", BODY_LIMIT)]
        self.server = grpc.server(ThreadPoolExecutor(100), options=options)
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        methods = {
            "Ping": unary(self._ping, wire.Empty.FromString, wire.PingResult.SerializeToString),
            "SendEvent": unary(self._event, wire.Event.FromString, wire.Result.SerializeToString),
            "SendQueueMessage": unary(
                self._send, wire.QueueMessage.FromString, wire.SendQueueMessageResult.SerializeToString
            ),
            "QueuesDownstream": stream(
                self._downstream,
                wire.QueuesDownstreamRequest.FromString,
                wire.QueuesDownstreamResponse.SerializeToString,
            ),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("kubemq.kubemq", methods),))
        place = f"127.0.0.1:{self.port or choose()}"  # which no connection is given while it is away
        if self.tls is None:
            self.port = self.server.add_insecure_port(place)
        else:
            pair = ((self.tls / "key.pem").read_bytes(), (self.tls / "cert.pem").read_bytes())
            self.port = self.server.add_secure_port(place, grpc.ssl_server_credentials([pair]))
        self.server.start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(0).wait(5)
            self.server = None
            for transaction in list(self.transactions):
                self._close(transaction)

    def address(self, **extra: Any) -> BrokerAddress:
        return BrokerAddress("kubemq", "monai_kubemq", "127.0.0.1", self.port, password=self.token, extra=extra)

    def lying_in(self, channel: str) -> list[Any]:
        """Messages that wait in a queue."""
        with self.lock:
            return [message for _, message in sorted(self.waiting.get(channel, {}).items())]

    def held(self, channel: str) -> int:
        """How many messages of a queue transactions have."""
        with self.lock:
            return sum(len(one.held) for one in self.transactions if one.channel == channel)

    def _let_in(self, context: grpc.ServicerContext) -> None:
        given = dict(context.invocation_metadata()).get("authorization")
        if self.token and given != self.token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Error 421: authentication verification failed, bad token")

    def _ping(self, _: Any, context: grpc.ServicerContext) -> Any:
        return wire.PingResult(Version="v2.0.0")

    def _event(self, event: Any, context: grpc.ServicerContext) -> Any:
        self._let_in(context)
        assert event.ClientID and event.Channel and event.Store
        self.events.append(event)
        return wire.Result(Sent=True)

    def _send(self, message: Any, context: grpc.ServicerContext) -> Any:
        self._let_in(context)
        if self.busy:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests")
        if self.denied and message.Channel.startswith(self.denied):
            context.abort(grpc.StatusCode.UNKNOWN, "Error 412: access denied to resource")
        error = _problem(message)
        if self.broken:
            error = "stan: publish ack timeout"
        if error:
            return wire.SendQueueMessageResult(IsError=True, Error=error)
        with self.lock:
            self.sequence += 1
            message.Attributes.Sequence, message.Attributes.Timestamp = self.sequence, time.time_ns()
            open_here = [one for one in self.transactions if one.channel == message.Channel and one.room > 0]
            if open_here:
                open_here[0].room -= 1
                open_here[0].unseen[self.sequence] = message
            else:
                self.waiting.setdefault(message.Channel, {})[self.sequence] = message
            self.lock.notify_all()
        return wire.SendQueueMessageResult(SentAt=time.time_ns())

    def _close(self, transaction: Transaction) -> None:
        with self.lock:
            transaction.is_open = False
            self.waiting.setdefault(transaction.channel, {}).update({**transaction.held, **transaction.unseen})
            transaction.held, transaction.unseen, transaction.room = {}, {}, 0
            if transaction in self.transactions:
                self.transactions.remove(transaction)
            self.lock.notify_all()

    def _downstream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        self._let_in(context)
        mine: dict[str, Transaction] = {}
        try:
            for request in requests:
                if request.RequestTypeData == wire.GET:
                    answer = self._get(request, context, mine)
                else:
                    answer = self._changed(request, mine.get(request.RefTransactionId))
                if answer is not None:
                    answer.RefRequestId = request.RequestID
                    answer.RequestTypeData = request.RequestTypeData
                    yield answer
        finally:
            for transaction in mine.values():
                self._close(transaction)

    def _get(self, request: Any, context: grpc.ServicerContext, mine: dict[str, Transaction]) -> Any:
        error = _problem(request)
        if self.denied and request.Channel.startswith(self.denied):
            error = "Error 412: access denied to resource"
        if error:
            return wire.QueuesDownstreamResponse(IsError=True, Error=error)
        transaction = Transaction(request.Channel, request.MaxItems)
        mine[transaction.name] = transaction
        end = time.monotonic() + max(self.least_wait, request.WaitTimeout / 1000)
        with self.lock:
            self.transactions.append(transaction)
            while transaction.is_open and context.is_active():
                transaction.held.update(transaction.unseen)
                transaction.unseen = {}
                waiting = self.waiting.setdefault(request.Channel, {})
                while waiting and transaction.room > 0:
                    transaction.room -= 1
                    first = min(waiting)
                    transaction.held[first] = waiting.pop(first)
                left = end - time.monotonic()
                if transaction.room == 0 or left <= 0:
                    break
                self.lock.wait(min(left, 0.1))
            shown = [message for _, message in sorted(transaction.held.items())]
        if not shown:
            self._close(transaction)
        return wire.QueuesDownstreamResponse(TransactionId=transaction.name, Messages=shown)

    def _changed(self, request: Any, transaction: Transaction | None) -> Any:
        failed = wire.QueuesDownstreamResponse(TransactionId=request.RefTransactionId, IsError=True)
        if transaction is None or transaction.channel == self.loses_acknowledgements_of:
            failed.Error = "transaction is completed or transaction id not found"
            return failed
        if not transaction.is_open:
            failed.Error = "cannot ack messages with closed response "
            return failed
        if request.RequestTypeData == wire.ACTIVE_OFFSETS:
            return wire.QueuesDownstreamResponse(TransactionId=transaction.name)
        with self.lock:
            for sequence in request.SequenceRange:
                if transaction.held.pop(sequence, None) is None:
                    failed.Error = f"invalid ack sequence id {sequence}"
                    return failed
        if not transaction.held:
            self._close(transaction)
        return None


def _problem(asked: Any) -> str:
    if not asked.ClientID:
        return "Error 101: invalid clientID value, cannot be empty"
    if not asked.Channel or asked.Channel.endswith(".") or set(asked.Channel) & set(" *>"):
        return "Error 120: invalid queue name value, cannot be empty, contains wildcards ,white spaces and end with dot"
    return ""


@contextmanager
def kubemq_server(token: str = "", denied: str = "", tls: Path | None = None) -> Iterator[KubeMqServer]:
    server = KubeMqServer(token, denied, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()
