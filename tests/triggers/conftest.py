"""A store with one payload, a real HTTP service, and triggers that are started as Airflow does, and killed."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import SyncToAsync

from airflow_monai.operators.light import LightOperator
from airflow_monai.store import Store, open_store
from airflow_monai.store.payloads import manifest_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import PatientDetails, Payload, TaskRecord
from tests.http_service import HttpService, http_service

PAYLOAD_ID = "0a1b2c3d-0000-4000-8000-000000000003"
SECRET = "Doe^Jane"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    store = open_store(str(tmp_path / "store"))
    times = dict.fromkeys(("received_first", "received_last", "closed"), "2026-01-01T00:00:00+00:00")
    patient = PatientDetails(id="A/1 2", name=SECRET, sex="F")
    payload = Payload(PAYLOAD_ID, "1.2.3", "CTLUNG", ("CT01",), 0, (), **times, patient=patient)
    store.write_json(manifest_key(PAYLOAD_ID), payload.to_dict())
    return store


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpService]:
    with http_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@dataclass
class Tries:
    """The tries of one task instance, as Airflow makes them."""

    store: Store
    number: int = 1
    try_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    run_started: str = "2026-01-02 00:00:00+00:00"
    conf: dict[str, Any] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: f"run-{uuid.uuid4().hex}")

    def next(self) -> Tries:
        """Airflow's next try: a retry, or after somebody has cleared the task."""
        return replace(self, number=self.number + 1, try_id=uuid.uuid4().hex)

    def trigger(self, operator: LightOperator) -> Any:
        """The operator's trigger, after its arguments have been kept in the database and rendered."""
        where = {
            "payload_id": PAYLOAD_ID, "run_id": self.run_id, "map_index": "-1", "try_number": str(self.number),
            "try_id": self.try_id, "run_started": self.run_started, "conf": json.dumps(self.conf),
        }  # fmt: skip
        assert set(where) == set(operator.where)
        _, kwargs = operator._trigger().serialize()
        return type(operator._trigger())(**{**json.loads(json.dumps(kwargs)), "where": where})

    def event(self, operator: LightOperator) -> Any:
        """What the trigger ends with."""
        return asyncio.run(first_event(self.trigger(operator)))

    def living(self, operator: LightOperator) -> BaseProcess:
        """The trigger in a process of its own, to be killed."""
        trigger = self.trigger(operator)
        process = multiprocessing.get_context("fork").Process(target=_live, args=(trigger,), daemon=True)
        process.start()
        return process

    def record(self, operator: LightOperator) -> TaskRecord | None:
        return RunFolder(self.store, PAYLOAD_ID, "ct", self.run_id).record(operator.task_id)

    def note(self, operator: LightOperator, name: str, generation: int = 1) -> str:
        return RunFolder(self.store, PAYLOAD_ID, "ct", self.run_id).note_key(operator.task_id, -1, generation, name)


def _live(trigger: Any) -> None:
    # The thread in which Airflow looks up connections is not there after a fork
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
    asyncio.run(first_event(trigger))
    os._exit(0)


async def first_event(trigger: Any) -> Any:
    async for event in trigger.run():
        return event
    return None


@pytest.fixture
def tries(store: Store) -> Tries:
    return Tries(store)
