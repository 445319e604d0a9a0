"""What somebody has begun to have sent again, and another goes on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.again import ExportTask, Resendable, resendable, wanted_before
from airflow_monai.sinks.ledger.cleared import Cleared
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.sinks.ledger.wishes import Noted, Wish, WishReused
from airflow_monai.store.local import LocalStore

PAYLOAD = "00000000-0000-5000-8000-000000000001"
ONE, TWO = ExportTask("ct", "run", "send"), ExportTask("mr", "run", "send")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(LocalStore(tmp_path), PAYLOAD, "PACS")
    accepted = Entry(DeliveryState.ACCEPTED, time="2026-01-02T03:04:05+00:00", attempts=1)
    ledger.write_page("a", {"1.1": replace(accepted, task=str(ONE)), "1.2": replace(accepted, task=str(TWO))})
    return ledger


def deliver(ledger: Ledger, identity: str) -> None:
    entry = ledger.entry(identity)
    assert entry is not None and entry.again
    sent = replace(entry, state=DeliveryState.ACCEPTED, attempts=entry.attempts + 1, again=False)
    ledger.write_page(f"sent-{identity}", {identity: sent})


def cleared(found: Resendable) -> dict[ExportTask, Cleared]:
    return dict(found.clear(lambda task, text: Cleared.YES, "a test"))


def test_who_goes_on_has_only_that_sent_which_was_not(ledger: Ledger) -> None:
    first = resendable(ledger)
    assert first.mark("a test") == 2
    deliver(ledger, "1.1")
    second = wanted_before(ledger.store, PAYLOAD, "PACS", first.wanted)
    assert second.mark("a test") == 0
    assert cleared(second) == {ONE: Cleared.SENT, TWO: Cleared.YES}
    deliver(ledger, "1.2")
    assert set(cleared(second).values()) == {Cleared.SENT}


def test_who_goes_on_marks_what_was_not_yet(ledger: Ledger) -> None:
    """Who began it died in the middle. To be asked afterwards, and to be there, is not to be sent."""
    first = resendable(ledger)
    Resendable(ledger, {"1.1": first.entries["1.1"]}, first.wanted).mark("a test")
    deliver(ledger, "1.1")
    seen = replace(first.entries["1.2"], verified=True, time="2026-01-02T03:05:00+00:00")
    ledger.write_page("verified", {"1.2": seen})
    second = wanted_before(ledger.store, PAYLOAD, "PACS", first.wanted)
    assert second.unmarked == {TWO: ["1.2"]} and second.mark("a test") == 1
    assert cleared(second) == {ONE: Cleared.SENT, TWO: Cleared.YES}


def test_a_mark_that_comes_after_the_sending_is_none(ledger: Ledger) -> None:
    slow = resendable(ledger)
    resendable(ledger).mark("a test")
    deliver(ledger, "1.1")
    deliver(ledger, "1.2")
    slow.mark("a test")
    assert {(entry.state, entry.again) for _, entry in ledger.entries()} == {(DeliveryState.ACCEPTED, False)}


def test_a_wish_keeps_what_was_wanted_and_its_first_answer(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    wish = Wish(store, PAYLOAD, "k", "this")
    assert wish.noted() is None and wish.begin({str(ONE): {"1.1": 1}}) is None
    assert wish.begin({}) == wish.noted() == Noted({str(ONE): {"1.1": 1}}, None)
    assert wish.end({"objects": 1}) == {"objects": 1} == wish.end({"objects": 2})
    assert wish.noted() == Noted({str(ONE): {"1.1": 1}}, {"objects": 1})
    with pytest.raises(WishReused):
        Wish(store, PAYLOAD, "k", "that").noted()
