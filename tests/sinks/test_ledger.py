"""The ledger: what was sent is entered before, what came of it after, and a crash between the two is seen."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.sinks.ledger import AHEAD, Entry, Ledger, Recorder
from airflow_monai.store.local import LocalStore

SENT, ACCEPTED, REFUSED = DeliveryState.SENT, DeliveryState.ACCEPTED, DeliveryState.REFUSED


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(LocalStore(tmp_path), str(uuid.uuid4()), "PACS")


def recorder(ledger: Ledger, *identities: str) -> Recorder:
    digests = dict.fromkeys(identities)
    return Recorder(ledger, digests, task="dag/run/task", before_request=lambda: None)


def test_sent_is_in_the_store_before_the_request_and_the_verdict_at_the_end(ledger: Ledger) -> None:
    assert ledger.entry("1.2") is None
    with recorder(ledger, "1.2") as record:
        record(Delivery("1.2", SENT))
        assert ledger.entry("1.2").state is SENT  # type: ignore[union-attr]
        record(Delivery("1.2", ACCEPTED, "0000", "Success"))
    entry = ledger.entry("1.2")
    assert entry is not None
    assert (entry.state, entry.status, entry.attempts, entry.task) == (ACCEPTED, "0000", 1, "dag/run/task")
    assert entry.time.endswith("+00:00")


def test_every_request_is_counted(ledger: Ledger) -> None:
    for _ in range(2):
        with recorder(ledger, "1.2") as record:
            for state in (SENT, DeliveryState.UNKNOWN, SENT, REFUSED):
                record(Delivery("1.2", state))
    assert ledger.entry("1.2").attempts == 4  # type: ignore[union-attr]


def test_a_crash_leaves_sent_and_the_next_try_counts_it(ledger: Ledger) -> None:
    ledger.write("1.2", Entry(SENT, attempts=1))
    with recorder(ledger, "1.2") as record:
        record(Delivery("1.2", SENT))
        record(Delivery("1.2", ACCEPTED, "0000"))
    assert ledger.entry("1.2").attempts == 2  # type: ignore[union-attr]


def test_what_was_entered_ahead_and_not_sent_is_pending_again(ledger: Ledger) -> None:
    names = [f"1.{number}" for number in range(AHEAD * 2)]
    with pytest.raises(ConnectionError), recorder(ledger, *names) as record:
        record(Delivery(names[0], SENT))
        record(Delivery(names[0], ACCEPTED, "0000"))
        record(Delivery(names[1], SENT))
        raise ConnectionError
    entries = dict(ledger.entries())
    assert entries[names[0]].state is ACCEPTED
    assert entries[names[1]].state is SENT
    ahead = [entry for name, entry in entries.items() if name not in names[:2]]
    assert {(entry.state, entry.attempts) for entry in ahead} == {(DeliveryState.PENDING, 0)}


def test_a_duplicate_is_an_acceptance_only_after_an_attempt_without_answer(ledger: Ledger) -> None:
    ledger.write("1.1", Entry(SENT, attempts=1))
    ledger.write("1.2", Entry(REFUSED, attempts=1))
    with recorder(ledger, "1.1", "1.2", "1.3") as record:
        for name in ("1.1", "1.2", "1.3"):
            record(Delivery(name, SENT))
            record(Delivery(name, REFUSED, "0111", "Duplicate SOP instance"))
    assert [record.verdicts[name].state for name in ("1.1", "1.2", "1.3")] == [ACCEPTED, REFUSED, REFUSED]


def test_a_fenced_task_sends_nothing(ledger: Ledger) -> None:
    def fenced() -> None:
        raise RuntimeError("newer try")

    with (
        pytest.raises(RuntimeError),
        Recorder(ledger, {"1.2": None}, task="t", before_request=fenced) as record,
    ):
        record(Delivery("1.2", SENT))
    assert ledger.entry("1.2") is None


def test_a_store_that_fails_fails_the_export(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError("disk full")

    with pytest.raises(StoreError, match="disk full"), recorder(ledger, "1.2") as record:
        record(Delivery("1.2", SENT))
        monkeypatch.setattr(LocalStore, "write", full)
        record(Delivery("1.2", ACCEPTED))


def test_a_damaged_entry_names_itself(ledger: Ledger) -> None:
    ledger.store.write(ledger.key("1.2"), b'{"state": "lost"}')
    with pytest.raises(StoreError, match=r"exports/PACS/1\.2\.json is damaged"):
        ledger.entry("1.2")
