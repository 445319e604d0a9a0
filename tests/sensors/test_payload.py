"""The sensor of arriving payloads looks at the store cheaply and takes the right payload."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_monai.errors import StoreError
from airflow_monai.sensors.payload import PayloadArrivedSensor
from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import manifest_key, payload_id_of, summary_key
from airflow_monai.store.s3 import S3Store
from airflow_monai.store.summaries import summary_of
from airflow_monai.triggers.payload import PayloadTrigger
from airflow_monai.types import Payload
from tests.s3_server import S3Server, s3  # noqa: F401 - a fixture

NOW = datetime.now(timezone.utc)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path))
    return LocalStore(tmp_path)


def arrive(store: Store, study: str, *, aet: str = "CTLUNG", after: float = 1.0) -> str:
    """A payload that was complete ``after`` seconds from now."""
    closed = (NOW + timedelta(seconds=after)).isoformat()
    payload = Payload(payload_id_of(study, aet, 0), study, aet, ("CT01",), 0, (), closed, closed, closed)
    store.write_json(summary_key(payload.payload_id), summary_of(payload, {}).to_dict())
    store.write_json(manifest_key(payload.payload_id), payload.to_dict())
    return payload.payload_id


def trigger(study: str = "", aet: str = "CTLUNG") -> PayloadTrigger:
    return PayloadTrigger(ae_title=aet, since=NOW.isoformat(), study_instance_uid=study, poll_interval=0.01)


def test_nothing_has_arrived(store: LocalStore) -> None:
    assert trigger().find() is None
    (store.root / "payloads" / "not-a-payload").mkdir(parents=True)
    arrive(store, "1.1", after=-5)
    arrive(store, "1.2", aet="OTHER")
    assert trigger().find() is None


def test_the_first_that_arrived_is_taken(store: LocalStore) -> None:
    arrive(store, "1.1", after=9)
    first = arrive(store, "1.2", after=3)
    assert trigger().find() == first


def test_a_study_can_be_asked_for(store: LocalStore) -> None:
    arrive(store, "1.1")
    wanted = arrive(store, "1.2", after=9)
    assert trigger(study="1.2").find() == wanted


def test_manifests_are_read_once_and_old_ones_never(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = store.local_path(manifest_key(arrive(store, "1.0", after=-3600)))
    assert old is not None
    os.utime(old, (NOW.timestamp() - 3600,) * 2)
    arrive(store, "1.1", aet="OTHER")
    reads: list[str] = []
    read = LocalStore.read
    monkeypatch.setattr(LocalStore, "read", lambda self, key: reads.append(key) or read(self, key))
    looking = trigger()
    assert [looking.find(), looking.find()] == [None, None]
    assert len(reads) == 1
    assert looking.find() is None
    assert arrive(store, "1.2") == looking.find()


def test_the_trigger_waits_and_survives_a_store_that_is_away(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    find = PayloadTrigger.find

    def flaky(self: PayloadTrigger) -> str | None:
        looks.append(1)
        if len(looks) == 1:
            raise StoreError("away")
        if len(looks) == 3:
            arrive(store, "1.1")
        return find(self)

    monkeypatch.setattr(PayloadTrigger, "find", flaky)

    async def first_event() -> object:
        return await anext(trigger().run())

    event = asyncio.run(asyncio.wait_for(first_event(), 10))
    assert event == TriggerEvent({"found": payload_id_of("1.1", "CTLUNG", 0)})


def test_the_sensor_starts_in_the_triggerer(store: LocalStore) -> None:
    sensor = PayloadArrivedSensor(task_id="arrived", ae_title="CTLUNG", timeout=timedelta(hours=1))
    assert sensor.start_from_trigger
    arguments = sensor.start_trigger_args
    assert arguments.timeout == timedelta(hours=1)
    module, _, name = arguments.trigger_cls.rpartition(".")
    assert (module, name) == (PayloadTrigger.__module__, PayloadTrigger.__name__)
    assert PayloadTrigger(**arguments.trigger_kwargs).serialize()[1] == arguments.trigger_kwargs


def test_of_a_bucket_no_manifest_is_read_but_that_of_the_one(
    s3: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what is known of the others is read once, however many tasks wait."""
    bucket = s3.store(tmp_path)
    monkeypatch.setattr("airflow_monai.triggers.payload.site_store", lambda: bucket)
    for number in range(5):
        arrive(bucket, f"1.{number}", after=-3600)
    arrive(bucket, "1.8", aet="OTHER")
    reads: list[str] = []
    read = S3Store.read
    monkeypatch.setattr(S3Store, "read", lambda self, key: reads.append(key) or read(self, key))
    assert [trigger().find(), trigger().find(), trigger().find()] == [None, None, None]
    assert sorted(key.rpartition("/")[2] for key in reads if key.startswith("payloads/")) == ["summary.json"] * 6
    wanted = arrive(bucket, "1.9")
    reads.clear()
    assert trigger().find() == wanted
    assert sorted(key.rpartition("/")[2] for key in reads) == ["payload.json", "summary.json"]
