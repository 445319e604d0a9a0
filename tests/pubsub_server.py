"""A Pub/Sub server for tests: the real gRPC services, on generated messages of Google's own client library.

It stands in for Google's emulator, which cannot be had in tests. It has topics, subscriptions, streaming pulls,
acknowledgements, deadlines that are set to 0 (which give a message back), ordering keys (one message of a key at a
time) and delivery attempts with the move to a dead-letter topic. All is in memory.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

from airflow_monai.broker.base import BrokerAddress
from airflow_monai.local.ports import choose

PROJECT = "clinic"


@dataclass
class Queue:
    """A subscription: what waits, and what was given out."""

    wanted: Any
    waiting: deque[Any] = field(default_factory=deque)
    given: dict[str, Any] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)


class PubSubServer:
    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.topics: dict[str, Any] = {}
        self.queues: dict[str, Queue] = {}
        self.numbers = itertools.count(1)
        self.port = 0
        self.server: grpc.Server | None = None

    def start(self) -> None:
        self.server = grpc.server(ThreadPoolExecutor(30))
        for service, methods in (("Publisher", self._publisher()), ("Subscriber", self._subscriber())):
            self.server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", methods),)
            )
        self.port = self.port or choose()  # which no connection is given while it is away
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(0).wait(5)
            self.server = None
            with self.lock:
                for queue in self.queues.values():  # nobody has them any more
                    queue.waiting.extendleft(reversed([queue.given.pop(name) for name in list(queue.given)]))

    def address(self, group: str = "test", **extra: Any) -> BrokerAddress:
        known = {"project": PROJECT, "insecure": True, "group": group, **extra}
        return BrokerAddress("pubsub", "monai_pubsub", "127.0.0.1", self.port, extra=known)

    def lying_in(self, subscription: str) -> list[Any]:
        """Messages that wait in a subscription."""
        queue = self.queues.get(f"projects/{PROJECT}/subscriptions/{subscription}")
        return list(queue.waiting) if queue else []

    def _publisher(self) -> dict[str, Any]:
        t = types
        return {
            "CreateTopic": _unary(t.Topic, t.Topic, self._create_topic),
            "ListTopics": _unary(t.ListTopicsRequest, t.ListTopicsResponse, self._list_topics),
            "ListTopicSubscriptions": _unary(
                t.ListTopicSubscriptionsRequest, t.ListTopicSubscriptionsResponse, self._subscriptions_of
            ),
            "Publish": _unary(t.PublishRequest, t.PublishResponse, self._publish),
        }

    def _subscriber(self) -> dict[str, Any]:
        t = types
        return {
            "CreateSubscription": _unary(t.Subscription, t.Subscription, self._create_subscription),
            "GetSubscription": _unary(t.GetSubscriptionRequest, t.Subscription, self._get_subscription),
            "Acknowledge": _unary(t.AcknowledgeRequest, None, self._acknowledge),
            "ModifyAckDeadline": _unary(t.ModifyAckDeadlineRequest, None, self._modify),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                self._pull,
                request_deserializer=t.StreamingPullRequest.deserialize,
                response_serializer=t.StreamingPullResponse.serialize,
            ),
        }

    def _create_topic(self, topic: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            if topic.name in self.topics:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, "Topic already exists")
            self.topics[topic.name] = topic
            return topic

    def _list_topics(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.project != f"projects/{PROJECT}":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
        return types.ListTopicsResponse(topics=list(self.topics.values()))

    def _subscriptions_of(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._topic(request.topic, context)
        names = [name for name, queue in self.queues.items() if queue.wanted.topic == request.topic]
        return types.ListTopicSubscriptionsResponse(subscriptions=names)

    def _topic(self, name: str, context: grpc.ServicerContext) -> None:
        if name not in self.topics:
            context.abort(grpc.StatusCode.NOT_FOUND, "Topic not found")

    def _publish(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._topic(request.topic, context)
        ids = []
        with self.lock:
            for message in request.messages:
                message.message_id = str(next(self.numbers))
                ids.append(message.message_id)
                self._put(request.topic, message)
            self.lock.notify_all()
        return types.PublishResponse(message_ids=ids)

    def _put(self, topic: str, message: Any) -> None:
        for queue in self.queues.values():
            if queue.wanted.topic == topic:
                queue.waiting.append(message)

    def _create_subscription(self, wanted: Any, context: grpc.ServicerContext) -> Any:
        self._topic(wanted.topic, context)
        with self.lock:
            if wanted.name in self.queues:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, "Subscription already exists")
            self.queues[wanted.name] = Queue(wanted)
            return wanted

    def _queue(self, name: str, context: grpc.ServicerContext) -> Queue:
        if name not in self.queues:
            context.abort(grpc.StatusCode.NOT_FOUND, "Subscription does not exist")
        return self.queues[name]

    def _get_subscription(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._queue(request.subscription, context).wanted

    def _acknowledge(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._answered(self._queue(request.subscription, context), request.ack_ids)
        return empty_pb2.Empty()

    def _modify(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.ack_deadline_seconds == 0:
            self._given_back(self._queue(request.subscription, context), request.ack_ids)
        return empty_pb2.Empty()

    def _answered(self, queue: Queue, ack_ids: Any) -> None:
        with self.lock:
            for ack_id in ack_ids:
                queue.given.pop(ack_id, None)
            self.lock.notify_all()

    def _given_back(self, queue: Queue, ack_ids: Any) -> None:
        with self.lock:
            for ack_id in reversed(list(ack_ids)):
                message = queue.given.pop(ack_id, None)
                policy = queue.wanted.dead_letter_policy
                if message is None:
                    continue
                if policy and queue.attempts.get(message.message_id, 0) >= policy.max_delivery_attempts:
                    self._put(policy.dead_letter_topic, message)
                else:
                    queue.waiting.appendleft(message)
            self.lock.notify_all()

    def _pull(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        first = next(requests)
        queue = self._queue(first.subscription, context)
        most = first.max_outstanding_messages or 1000
        mine: set[str] = set()
        ended = threading.Event()

        def hear() -> None:
            try:
                for request in requests:
                    self._answered(queue, request.ack_ids)
                    changed = zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True)
                    zero = [ack_id for ack_id, seconds in changed if seconds == 0]
                    self._given_back(queue, zero)
            except Exception:  # noqa: BLE001 - the client has gone
                pass
            ended.set()

        threading.Thread(target=hear, daemon=True).start()
        try:
            while context.is_active() and not ended.is_set():
                given = self._give(queue, mine, most)
                if given is not None:
                    yield types.StreamingPullResponse(received_messages=[given])
                else:
                    time.sleep(0.02)
        finally:
            self._given_back(queue, [ack_id for ack_id in mine if ack_id in queue.given])

    def _give(self, queue: Queue, mine: set[str], most: int) -> Any:
        with self.lock:
            mine &= set(queue.given)
            busy = {message.ordering_key for message in queue.given.values() if message.ordering_key}
            if len(mine) >= most:
                return None
            for message in list(queue.waiting):
                if message.ordering_key in busy:
                    continue
                queue.waiting.remove(message)
                ack_id = uuid.uuid4().hex
                queue.given[ack_id] = message
                mine.add(ack_id)
                attempt = queue.attempts[message.message_id] = queue.attempts.get(message.message_id, 0) + 1
                return types.ReceivedMessage(ack_id=ack_id, message=message, delivery_attempt=attempt)
        return None


def _unary(request: Any, response: Any, work: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        work,
        request_deserializer=request.deserialize,
        response_serializer=response.serialize if response else empty_pb2.Empty.SerializeToString,
    )


@contextmanager
def pubsub_server() -> Iterator[PubSubServer]:
    server = PubSubServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
