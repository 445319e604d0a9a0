"""An Airflow whose runs live, and what watches it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_changes import AirflowChanges
from airflow_monai.lifecycle.happening import Happening
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.watcher import Watcher
from airflow_monai.store.base import Store
from tests.lifecycle.living import LivingAirflow


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> Iterator[LivingAirflow]:
    airflow = LivingAirflow()
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", airflow.connection)
    yield airflow
    airflow.stop()


def watcher(store: Store, since: timedelta = timedelta(seconds=1)) -> Watcher:
    made = Watcher(store, Journal(store), AirflowChanges(AirflowApi("monai_airflow")))
    made.begin(datetime.now(timezone.utc) - since)
    return made


def journal_of(store: Store) -> list[Happening]:
    journal = Journal(store)
    return [event for number in range(1, journal.end() + 1) for event in journal.read(number) or ()]
