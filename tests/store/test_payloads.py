"""Ids: those of runs lead back to their payload."""

from __future__ import annotations

import pytest

from airflow_monai.store.arrival import note_foreign_run, starts_of
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import (
    batch_run_id,
    job_run_id,
    payload_id_in,
    payload_id_of,
    rerun_id_of,
    run_id_of,
)

PAYLOAD = payload_id_of("1.2.3", "CTLUNG", 0)
OURS = [
    run_id_of(PAYLOAD),
    rerun_id_of(PAYLOAD, 2),
    batch_run_id(PAYLOAD, 3),
    job_run_id(PAYLOAD, "urgent", "0123456789abcdef0123"),
]
FOREIGN = [
    "manual__2026-03-01T00:00:00+00:00",
    f"manual__{PAYLOAD}",
    f"monai__{PAYLOAD[:-1]}",
    f"monai__{PAYLOAD}-by-hand",
    f"monai__{PAYLOAD}\n",
    PAYLOAD,
    "",
]


@pytest.mark.parametrize("run_id", OURS)
def test_a_run_of_ours_is_named_after_its_payload(local: LocalStore, run_id: str) -> None:
    assert payload_id_in(run_id) == PAYLOAD
    note_foreign_run(local, PAYLOAD, "ct", run_id, "")
    assert starts_of(local, PAYLOAD) == (), "who creates it notes it"


@pytest.mark.parametrize("run_id", FOREIGN)
def test_others_are_not(local: LocalStore, run_id: str) -> None:
    assert payload_id_in(run_id) == ""
    note_foreign_run(local, PAYLOAD, "ct", run_id, "2026-03-01T00:00:00+00:00")
    assert [start.run_id for start in starts_of(local, PAYLOAD)] == [run_id]


def test_a_run_named_after_another_payload_is_a_foreign_one(local: LocalStore) -> None:
    run_id = run_id_of(payload_id_of("1.2.4", "CTLUNG", 0))
    note_foreign_run(local, PAYLOAD, "ct", run_id, "")
    assert [start.run_id for start in starts_of(local, PAYLOAD)] == [run_id]
