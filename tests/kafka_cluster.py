"""A Kafka cluster for tests: librdkafka's own mock cluster in a process of its own.

It speaks Kafka's protocol over sockets (topics, consumer groups, offsets with metadata, rebalances), and stands in for
a cluster because none can be had in tests. It keeps nothing on disk: one that was killed has forgotten all. Topics are
made when somebody writes to them; the request to make one is never answered.

    python tests/kafka_cluster.py      prints the port of its one broker
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from airflow_monai.broker.base import BrokerAddress


@dataclass
class KafkaCluster:
    """The cluster as tests see it."""

    port: int = 0
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def address(self, group: str = "test", **extra: Any) -> BrokerAddress:
        return BrokerAddress("kafka", "monai_kafka", "127.0.0.1", self.port, extra={"group": group, **extra})

    def records(self, topic: str, seconds: float = 60.0, count: int = 1) -> list[Any]:
        """What lies in a topic, the oldest first: ``count`` records at least, or as many as came in time."""
        from confluent_kafka import Consumer

        settings = {"group.id": f"look-{time.time()}", "auto.offset.reset": "earliest", "log_level": 0}
        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.port}", **settings})
        consumer.subscribe([topic])
        found: list[Any] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(found) < count:
            record = consumer.poll(0.2)
            if record is not None and record.error() is None:
                found.append(record)
        consumer.close()
        return found


@contextmanager
def kafka_cluster() -> Iterator[KafkaCluster]:
    cluster = KafkaCluster()
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()


def main() -> None:
    from confluent_kafka import Producer

    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    print(broker.port, flush=True)
    while True:
        producer.poll(1.0)


if __name__ == "__main__":
    main()
