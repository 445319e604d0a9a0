"""Types of artifacts, and health, which anybody may ask."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_monai.api.workflow_manager import health
from airflow_monai.gateway.removal import Remover
from airflow_monai.intake.events import EventLog
from airflow_monai.specs.choices import ARTIFACT_TYPES
from airflow_monai.store.heartbeat import ALIVE_SECONDS
from airflow_monai.store.local import LocalStore
from tests.api.workflow_manager.scene import BASE
from tests.gateway.conftest import wait_for
from tests.kafka_cluster import kafka_cluster
from tests.kubemq_server import kubemq_server
from tests.pubsub_server import pubsub_server

Api = Callable[[str | None], TestClient]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every answer is looked for, and waited for as long as a busy machine takes."""
    monkeypatch.setattr(health, "_in_time", health.InTime(60.0))
    monkeypatch.setattr(health, "_kept", health.Kept(health.look, clock=iter(range(0, 10**6, 1000)).__next__))
    yield


def checks(client: TestClient) -> tuple[int, str, dict[str, str]]:
    answer = client.get(f"{BASE}/health")
    return (
        answer.status_code,
        answer.json()["status"],
        {item["check"]: item["result"] for item in answer.json()["checks"]},
    )


def test_types_of_artifacts(api: Api) -> None:
    found = api("viewer").get(f"{BASE}/artifacts/types").json()
    assert list(found) == list(ARTIFACT_TYPES) and found["SEG"] == "Segmentation"
    assert all(label and label != name for name, label in found.items())
    assert api(None).get(f"{BASE}/artifacts/types").status_code == 401


def test_health_is_for_anybody(api: Api, site_store: LocalStore) -> None:
    assert checks(api(None)) == (
        200,
        "Healthy",
        {"store": "Healthy", "airflow database": "Healthy", "gateway": "Unknown"},
    )
    gateway = Remover(site_store, EventLog(None), lambda payload_id: False)
    gateway.start()
    try:
        wait_for(lambda: checks(api(None))[2]["gateway"] == "Healthy")
        (name,) = site_store.children("gateways")
        file = site_store.root / "gateways" / name
        old = file.stat().st_mtime - ALIVE_SECONDS - 5
        os.utime(file, (old, old))
        assert checks(api(None))[:2] == (200, "Degraded")
    finally:
        gateway.stop(60)
    assert checks(api(None))[2]["gateway"] == "Unknown"


def test_what_cannot_be_reached_is_told_without_its_place(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", f"amqp://anna:secret@127.0.0.1:{port}/x")
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_CONN_ID", "broker")
    assert checks(api(None))[:2] == (503, "Unhealthy")
    text = api(None).get(f"{BASE}/health").text
    assert str(port) not in text and "anna" not in text and "127.0.0.1" not in text
    monkeypatch.delenv("AIRFLOW__MONAI__BROKER_CONN_ID")
    monkeypatch.setattr(LocalStore, "children", lambda *_: (_ for _ in ()).throw(OSError("/secret/folder")))
    answer = api(None).get(f"{BASE}/health")
    assert answer.status_code == 503 and "secret" not in answer.text
    assert {"check": "store", "result": "Unhealthy"} in answer.json()["checks"]


def broker_is(monkeypatch: pytest.MonkeyPatch, kind: str, **connection: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", json.dumps({"conn_type": kind, **connection}))
    monkeypatch.setenv("AIRFLOW__MONAI__BROKER_CONN_ID", "broker")


def test_of_the_servers_of_a_kafka_cluster_one_is_enough(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kafka_cluster() as cluster:
        broker_is(monkeypatch, "monai_kafka", host=f"127.0.0.1:1, 127.0.0.1:{cluster.port}")
        assert checks(api(None))[2]["broker"] == "Healthy"
    monkeypatch.setattr(health, "_in_time", health.InTime(1.0))
    began = time.monotonic()
    assert checks(api(None))[::2] == (503, {**checks(api(None))[2], "broker": "Unhealthy"})
    assert time.monotonic() - began < 60


def test_pubsub_is_asked_where_it_is(api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pubsub_server() as server:
        place = {"host": "127.0.0.1", "port": server.port, "extra": {"project": "clinic", "insecure": True}}
        broker_is(monkeypatch, "monai_pubsub", **place)
        assert checks(api(None))[2]["broker"] == "Healthy"
    assert checks(api(None))[2]["broker"] == "Unhealthy"


def test_kubemq_is_asked_where_it_is(api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with kubemq_server(token="hush") as server:
        broker_is(monkeypatch, "monai_kubemq", host="127.0.0.1", port=server.port, password="hush")
        assert checks(api(None))[2]["broker"] == "Healthy"
        broker_is(monkeypatch, "monai_kubemq", host="127.0.0.1", port=server.port, password="wrong")
        assert checks(api(None))[2]["broker"] == "Unhealthy"


def test_what_answers_nothing_is_out_of_reach_in_time(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_in_time", health.InTime(0.5))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        broker_is(monkeypatch, "monai_rabbitmq", host="127.0.0.1", port=mute.getsockname()[1])
        began, others = time.monotonic(), threading.enumerate()
        for _ in range(3):
            assert checks(api(None))[2]["broker"] == "Unhealthy"
        assert time.monotonic() - began < 30
        assert sum(thread.name == "health" and thread not in others for thread in threading.enumerate()) == 1


def test_without_the_library_of_its_broker_nobody_knows(
    api: Api, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker_is(monkeypatch, "monai_pubsub", extra={"project": "clinic"})
    monkeypatch.setitem(sys.modules, "airflow_monai.broker.pubsub", None)
    status, told, found = checks(api(None))
    assert (status, told, found["broker"]) == (200, "Healthy", "Unknown")


def test_asking_often_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looked = [0.0], list[int]()

    def look() -> health.Report:
        looked.append(1)
        return health.Report(status=health.Health.HEALTHY, checks=[])

    kept = health.Kept(look, clock=lambda: now[0])
    for _ in range(10):
        kept.report()
    assert len(looked) == 1
    now[0] += health.KEPT_SECONDS
    kept.report()
    assert len(looked) == 2


def test_who_asks_while_somebody_looks_need_not_wait() -> None:
    now, going_on, may_end = [0.0], threading.Event(), threading.Event()

    def look() -> health.Report:
        if now[0]:
            going_on.set()
            assert may_end.wait(60)
        return health.Report(status=health.Health.UNHEALTHY if now[0] else health.Health.HEALTHY, checks=[])

    kept = health.Kept(look, clock=lambda: now[0])
    kept.report()
    now[0] = 100.0
    slow = threading.Thread(target=kept.report)
    slow.start()
    assert going_on.wait(60)
    assert kept.report().status is health.Health.HEALTHY
    may_end.set()
    slow.join()
    assert kept.report().status is health.Health.UNHEALTHY
