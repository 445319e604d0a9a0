"""The sensor of files in the store waits until they are there and still."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from airflow_monai.sensors.store_files import StoreFilesSensor
from airflow_monai.store.local import LocalStore
from airflow_monai.triggers.store_files import StoreFilesTrigger

from .conftest import event_of


def trigger(at_least: int = 1, stable: float = 0.3) -> StoreFilesTrigger:
    return StoreFilesTrigger(prefix="exchange/a", at_least=at_least, stable_seconds=stable, poll_interval=0.02)


def test_too_few_files_are_waited_for(store: LocalStore) -> None:
    store.write("exchange/a/one", b"1")
    store.write("exchange/b/two", b"2")
    with pytest.raises(asyncio.TimeoutError):
        event_of(trigger(at_least=2, stable=0.05), 0.4)
    store.write("exchange/a/two", b"2")
    assert event_of(trigger(at_least=2, stable=0.05)) == {"found": 2}


def test_files_that_still_change_are_waited_for(store: LocalStore) -> None:
    store.write("exchange/a/one", b"")

    def grow() -> None:
        for size in range(1, 11):
            time.sleep(0.08)
            store.write("exchange/a/one", b"x" * size)

    writer = threading.Thread(target=grow)
    begun = time.monotonic()
    writer.start()
    assert event_of(trigger(stable=1.5)) == {"found": 1}
    assert time.monotonic() - begun >= 0.8 + 1.5 - 0.05
    assert store.size("exchange/a/one") == 10
    writer.join()


def test_a_file_that_is_written_anew_with_its_size_counts_as_changed(store: LocalStore) -> None:
    store.write("exchange/a/one", b"1")
    looking = trigger(stable=0.2)
    assert looking.find() is None
    time.sleep(0.25)
    store.write("exchange/a/one", b"2")
    assert looking.find() is None
    time.sleep(0.25)
    assert looking.find() == 1


def test_a_look_asks_for_all_files_together(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket each file that is asked for by itself is a request."""
    store.write("exchange/a/one", b"1")
    monkeypatch.setattr(LocalStore, "size", None)
    assert trigger(stable=0).find() == 1


def test_a_prefix_outside_the_store_ends_the_waiting(store: LocalStore) -> None:
    event = event_of(StoreFilesTrigger(prefix="../etc"))
    assert "Set prefix to a folder of the store" in event["failed"]


def test_the_sensor_starts_in_the_triggerer() -> None:
    arguments = StoreFilesSensor(task_id="files", prefix="exchange/a", at_least=3).start_trigger_args
    rebuilt = StoreFilesTrigger(**arguments.trigger_kwargs)
    assert rebuilt.serialize() == (arguments.trigger_cls, arguments.trigger_kwargs)
