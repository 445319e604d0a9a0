"""A stream by which messages are taken and acknowledged."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import grpc

from airflow_monai.broker.kubemq import wire
from airflow_monai.broker.kubemq.access import CONFIRM_SECONDS, CONNECT_SECONDS, Access
from airflow_monai.errors import BrokerError


class Line:
    """A stream of requests and their answers, by which one message is held at a time. Of one thread at a time."""

    def __init__(self, access: Access, calls: wire.Calls):
        self._access = access
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.lost: BrokerError | None = None
        try:
            self._call = calls.downstream(iter(self._requests.get, None), metadata=access.options.metadata)
        except ValueError:  # the channel was closed
            raise access.address.away("the connection was closed") from None
        threading.Thread(target=self._hear, name=f"kubemq-line-{access.address.name}", daemon=True).start()

    def _hear(self) -> None:
        lost: BrokerError = self._access.address.away("KubeMQ has ended the connection")
        try:
            for answer in self._call:
                if answer.RequestTypeData == wire.CLOSE_BY_SERVER:
                    break
                self._answers.put(answer)
        except grpc.RpcError as error:
            lost = self._access.as_ours(error)
        self.lost = lost
        self.close()

    def close(self) -> None:
        """End it; a message that is held by it comes again."""
        self.lost = self.lost or self._access.address.away("the connection was closed")
        self._call.cancel()
        self._requests.put(None)
        self._answers.put(None)

    def ask(self, seconds: float, *requests: Any) -> Any:
        """The first answer to one of the requests.

        :raises BrokerError: when there is none in time.
        """
        ids = [request.RequestID for request in requests]
        for request in requests:
            self._requests.put(request)
        end = time.monotonic() + seconds
        while self.lost is None:
            try:
                answer = self._answers.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                self.close()
                raise self._access.address.away(f"KubeMQ has not answered within {seconds:g} s") from None
            if answer is not None and answer.RefRequestId in ids:
                return answer
        raise self.lost

    def _request(self, what: int, **fields: Any) -> Any:
        client_id = self._access.options.client_id
        return wire.QueuesDownstreamRequest(
            RequestID=uuid.uuid4().hex, ClientID=client_id, RequestTypeData=what, **fields
        )

    def check(self) -> None:
        """Return when the server has let us in; what is asked for is never there.

        :raises BrokerError: when it has not.
        """
        self.ask(CONNECT_SECONDS, self._request(wire.ACTIVE_OFFSETS, RefTransactionId=uuid.uuid4().hex))

    def poll(self, channel: str, seconds: float, most: int = 1) -> Any:
        """The next messages of a queue with their transaction; None when there are none so long.

        :raises BrokerError: when the server does not say.
        """
        get = self._request(wire.GET, Channel=channel, MaxItems=most, WaitTimeout=int(seconds * 1000))
        answer = self.ask(seconds + CONFIRM_SECONDS, get)
        if answer.IsError:
            raise self._access.refused(answer.Error)
        return answer if answer.Messages else None

    def acknowledge(self, transaction: str, sequences: Sequence[int]) -> None:
        """Return when the server has taken an acknowledgement of messages of a transaction.

        :raises BrokerError: when it has not; the messages come again.
        """
        ack = self._request(wire.ACK_RANGE, RefTransactionId=transaction, SequenceRange=sequences)
        after = self._request(wire.ACTIVE_OFFSETS, RefTransactionId=transaction)
        answer = self.ask(CONFIRM_SECONDS, ack, after)
        if answer.RefRequestId == ack.RequestID and answer.IsError:
            raise self._access.refused(answer.Error)
