"""What a gateway does now and then: each chore again and again, whatever another one raises."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_monai.errors import MonaiError
from airflow_monai.gateway.chores import Chore, Chores, chores
from airflow_monai.jobs.requests import JobRequests
from airflow_monai.store.local import LocalStore
from tests.gateway.conftest import wait_for
from tests.jobs.test_requests import PAYLOAD, Runs, wanted
from tests.maps.registered import image_map


def test_each_is_done_again_whatever_another_raises() -> None:
    done = threading.Semaphore(0)

    def fail() -> None:
        raise MonaiError("not now")

    def break_down() -> None:
        raise ValueError("nobody foresaw this")

    some = Chores([Chore("a", 0.0, fail), Chore("b", 0.0, break_down), Chore("c", 0.0, done.release)])
    some.start()
    try:
        assert done.acquire(timeout=60) and done.acquire(timeout=60)
    finally:
        some.stop(60.0)
        some.stop(5.0)
    assert not some._thread.is_alive()


def test_a_gateway_begins_the_jobs_that_wait(tmp_path: Path) -> None:
    from airflow_monai.maps.registry import MapRegistry

    store, runs = LocalStore(tmp_path), Runs()
    MapRegistry(store).register(image_map())
    store.write_json(f"payloads/{PAYLOAD}/payload.json", {})
    JobRequests(store).place("r", "asked", lambda: [wanted("r")])
    api: Any = SimpleNamespace(create_run=runs.create_run, end_run=runs.end)
    parts: Any = SimpleNamespace(store=store)
    made = chores(api)(parts)
    made.start()
    try:
        wait_for(lambda: not JobRequests(store).is_open("r"))
    finally:
        made.stop(5.0)
    assert runs.made == [wanted("r").run_id]
