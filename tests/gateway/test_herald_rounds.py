"""What a herald takes up when it begins; Airflow stands in (:mod:`tests.lifecycle.living`), the rest is real."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_monai.gateway.herald import Herald
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_changes import AirflowChanges
from airflow_monai.intake.events import EventLog
from airflow_monai.lifecycle.happening import What
from airflow_monai.lifecycle.receiver import Receiver
from airflow_monai.lifecycle.watcher import CURSOR
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import run_id_of
from tests.gateway.conftest import wait_for
from tests.lifecycle.happenings import Ear
from tests.lifecycle.living import LivingAirflow


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> Iterator[LivingAirflow]:
    airflow = LivingAirflow()
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", airflow.connection)
    yield airflow
    airflow.stop()


def test_what_happened_on_a_weekend_without_a_gateway_is_told(living: LivingAirflow, tmp_path: Path):
    """Also what is older than the time after which something is given up: nobody was told in vain yet."""
    store, ear, now = LocalStore(tmp_path), Ear(), datetime.now(timezone.utc)
    store.write_json(CURSOR, {"at": (now - timedelta(hours=62)).isoformat()})
    ended = (now - timedelta(hours=50)).isoformat()
    run_id = run_id_of("0b8ee4f2-0000-4000-8000-000000000001")
    living.go_through(run_id)
    living.life["ct-lung", run_id] |= {"start_date": ended, "end_date": ended, "updated": ended}
    receiver = Receiver(lambda: ear, 1, now - timedelta(days=30))
    herald = Herald(
        store,
        AirflowChanges(AirflowApi("monai_airflow")),
        lambda: {"handler-x": receiver},
        EventLog(),
        idle_seconds=0.1,
    )
    herald.start()
    try:
        wait_for(lambda: any(event.what is What.WORKFLOW_COMPLETED for event in list(ear.heard)))
    finally:
        herald.stop(30)
    assert {event.run_id for event in ear.heard} == {run_id}
