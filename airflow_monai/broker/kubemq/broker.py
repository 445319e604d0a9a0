"""KubeMQ as a kind of broker."""

from __future__ import annotations

from airflow_monai.broker.base import Broker, BrokerAddress, Message, Publisher, Subscription, Wanted
from airflow_monai.broker.kubemq import wire
from airflow_monai.broker.kubemq.access import CONNECT_SECONDS, Access
from airflow_monai.broker.kubemq.line import Line
from airflow_monai.broker.kubemq.subscription import KubeMqSubscription
from airflow_monai.errors import BrokerError


class KubeMq(Broker):
    """A KubeMQ server or cluster."""

    def __init__(self, address: BrokerAddress):
        super().__init__(address)
        self._access = Access(address)

    def publisher(self) -> Publisher:
        return _Publisher(self._access)

    def subscribed(self, wanted: Wanted) -> Subscription:
        return KubeMqSubscription(self._access, wanted)

    def test(self) -> str:
        calls = self._access.calls()
        try:
            version = self._access.asked(calls.ping, wire.Empty(), CONNECT_SECONDS).Version
            line = Line(self._access, calls)
            line.check()
            line.close()
        finally:
            calls.channel.close()
        return f"Logged in at {self._access.options.target}: KubeMQ {version or 'of unknown version'}."


class _Publisher:
    def __init__(self, access: Access):
        self._access = access
        self._calls: wire.Calls | None = None

    def __enter__(self) -> _Publisher:
        calls = self._access.calls()
        try:
            self._access.asked(calls.ping, wire.Empty(), CONNECT_SECONDS)
        except BrokerError:
            calls.channel.close()
            raise
        self._calls = calls
        return self

    def __exit__(self, *error: object) -> None:
        if self._calls is not None:
            self._calls.channel.close()
            self._calls = None

    def publish(self, message: Message) -> None:
        assert self._calls is not None, "use it as a context"
        self._access.send(self._calls, message.topic, message, {})
