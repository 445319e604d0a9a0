"""The ledger: what was sent is entered before, what came of it after, and a crash between the two is seen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_monai.errors import Fenced, StoreError
from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.sinks.ledger.recorder import AHEAD, Recorder, enter
from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from tests.s3_server import s3  # noqa: F401

SENT, ACCEPTED, REFUSED = DeliveryState.SENT, DeliveryState.ACCEPTED, DeliveryState.REFUSED


@pytest.fixture(params=["local", "s3"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    local = request.param == "local"
    store = LocalStore(tmp_path) if local else request.getfixturevalue("s3").store(tmp_path)
    return Ledger(store, str(uuid.uuid4()), "PACS")


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
    ledger.write_page("a", {"1.2": Entry(SENT, attempts=1)})
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
    ledger.write_page("a", {"1.1": Entry(SENT, attempts=1), "1.2": Entry(REFUSED, attempts=1)})
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
        monkeypatch.setattr(type(ledger.store), "write", full)
        record(Delivery("1.2", ACCEPTED))


def test_a_damaged_page_names_itself(ledger: Ledger) -> None:
    ledger.store.write(ledger.key("a.json"), b'{"1.2": {"state": "lost"}}')
    with pytest.raises(StoreError, match=r"exports/PACS/a\.json is damaged"):
        ledger.entry("1.2")


def sent_and_accepted(record: Recorder, *identities: str) -> None:
    for identity in identities:
        record(Delivery(identity, SENT))
        record(Delivery(identity, ACCEPTED, "0000"))


def news_of(ledger: Ledger) -> list[str]:
    return [name for name in ledger.store.children(ledger.key()) if name.endswith(".news.json")]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def test_verdicts_are_in_the_store_within_a_moment_while_the_sending_goes_on(ledger: Ledger) -> None:
    names = [f"1.{number}" for number in range(10)]
    with recorder(ledger, *names) as record:
        for name in names:
            record(Delivery(name, SENT))
            record(Delivery(name, ACCEPTED, "0000"))
            if name == names[4]:
                until(lambda: ledger.entry(names[4]).state is ACCEPTED)  # type: ignore[union-attr]
                assert [entry.state for _, entry in ledger.entries()].count(ACCEPTED) == 5
    assert {entry.state for _, entry in ledger.entries()} == {ACCEPTED}
    assert news_of(ledger) == []


@pytest.mark.parametrize("left", [b"", b"\0" * 100, b'{"1.1": {"state": "acc', b'{"1.1": {"state"' + b"\0" * 50])
def test_a_power_cut_in_the_midst_leaves_sent_for_the_whole_page(ledger: Ledger, left: bytes) -> None:
    """And a refusal as a duplicate then means that the first attempt had arrived."""
    names = [f"1.{number}" for number in range(AHEAD * 2)]
    record = recorder(ledger, *names)
    record.__enter__()
    sent_and_accepted(record, *names[:2])
    until(lambda: bool(news_of(ledger)))
    record._writer.finish()
    for name in news_of(ledger):
        ledger.store.write(ledger.key(name), left)  # what a file system may leave of a file that was not flushed
    entries = dict(ledger.entries())
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(SENT, 1)}
    assert set(names[:AHEAD]) <= set(entries)
    with recorder(ledger, *names) as again:
        again(Delivery(names[0], SENT))
        again(Delivery(names[0], REFUSED, "0111", "Duplicate SOP instance"))
    assert again.verdicts[names[0]].state is ACCEPTED
    assert ledger.entry(names[0]).attempts == 2  # type: ignore[union-attr]
    assert ledger.entry(names[1]).state is SENT  # type: ignore[union-attr]


def test_a_duplicate_is_none_where_the_far_side_may_hold_other_content(ledger: Ledger) -> None:
    ledger.write_page("a", {"1.1": Entry(ACCEPTED, attempts=1, digest="old")})
    for state in (DeliveryState.UNKNOWN, REFUSED):
        with Recorder(ledger, {"1.1": "new"}, task="t", before_request=lambda: None) as record:
            record(Delivery("1.1", SENT))
            record(Delivery("1.1", state, "0111" if state is REFUSED else ""))
    entry = ledger.entry("1.1")
    assert entry is not None and (entry.state, entry.mixed) == (REFUSED, True)


def test_a_verdict_without_a_request_counts_as_none(ledger: Ledger) -> None:
    ledger.write_page("a", {"1.2": Entry(SENT, attempts=1)})
    with recorder(ledger, "1.1", "1.2") as record:
        record(Delivery("1.1", REFUSED, message="not taken"))
        record(Delivery("1.2", ACCEPTED, message="found there", verified=True))
    found = {name: (entry.state, entry.attempts, entry.verified) for name, entry in ledger.entries()}
    assert found == {"1.1": (REFUSED, 0, False), "1.2": (ACCEPTED, 1, True)}


def test_many_threads_send_at_once(ledger: Ledger) -> None:
    names = [f"1.{number}" for number in range(AHEAD * 5)]
    with recorder(ledger, *names) as record, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: sent_and_accepted(record, name), names))
    entries = dict(ledger.entries())
    assert set(entries) == set(names)
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(ACCEPTED, 1)}
    assert news_of(ledger) == []


def test_few_durable_objects_do_for_many_instances(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    write = type(ledger.store).write

    def counting(store: Store, key: str, data: bytes, durable: bool = True) -> None:
        flushed.extend([key] if durable else [])
        write(store, key, data, durable)

    monkeypatch.setattr(type(ledger.store), "write", counting)
    names = [f"1.{number}" for number in range(AHEAD * 3)]
    with recorder(ledger, *names) as record:
        sent_and_accepted(record, *names)
    assert len(flushed) == 6  # each page when it is opened and when all have their verdict
    assert {entry.state for _, entry in ledger.entries()} == {ACCEPTED}


def test_a_sending_that_reaches_nobody_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(ConnectionError), recorder(ledger, "1.1", "1.2"):
        raise ConnectionError
    assert list(ledger.entries()) == []


def test_a_try_that_was_replaced_spoils_nothing_of_the_newer_one(ledger: Ledger) -> None:
    """It hangs in a request while the newer try has everything accepted, then its request times out."""
    names = [f"1.{number}" for number in range(5)]
    newest = 1

    def still_ours() -> None:
        if newest > 1:
            raise Fenced("a newer try has taken over")

    with (
        pytest.raises(Fenced),
        Recorder(ledger, dict.fromkeys(names), task="old", before_request=still_ours) as old,
    ):
        old(Delivery(names[0], SENT))
        newest = 2
        with recorder(ledger, *names) as new:
            sent_and_accepted(new, *names)
        old(Delivery(names[0], DeliveryState.UNKNOWN, message="no answer", retry=True))
    assert {(entry.state, entry.task) for _, entry in ledger.entries()} == {(ACCEPTED, "dag/run/task")}


def test_what_another_task_has_had_accepted_stays_accepted(ledger: Ledger) -> None:
    with recorder(ledger, "1.1") as slow:
        slow(Delivery("1.1", SENT))
        with recorder(ledger, "1.1") as other:
            sent_and_accepted(other, "1.1")
        slow(Delivery("1.1", DeliveryState.UNKNOWN, message="no answer"))
    assert ledger.entry("1.1").state is ACCEPTED  # type: ignore[union-attr]


@pytest.mark.parametrize("state", [SENT, DeliveryState.UNKNOWN, REFUSED])
def test_an_acceptance_is_not_lost_to_a_request_that_was_sent_beside_it(ledger: Ledger, state: DeliveryState) -> None:
    """Two tasks send the same at the same time; the one that began later gets no answer."""
    with recorder(ledger, "1.1") as first:
        first(Delivery("1.1", SENT))
        second = recorder(ledger, "1.1")
        with second:
            second(Delivery("1.1", SENT))
            first(Delivery("1.1", ACCEPTED, "0000"))
            if state is not SENT:
                second(Delivery("1.1", state, message="no"))
    assert ledger.entry("1.1").state is ACCEPTED  # type: ignore[union-attr]


def test_what_was_accepted_and_is_not_there_is_no_more_accepted(ledger: Ledger) -> None:
    with recorder(ledger, "1.1") as record:
        sent_and_accepted(record, "1.1")
    for state in (DeliveryState.UNKNOWN, SENT, REFUSED, ACCEPTED):
        if state is DeliveryState.UNKNOWN:
            known = ledger.known(["1.1"])
            enter(ledger, [Delivery("1.1", state, message="not there")], {"1.1": None}, task="t", known=known)
        else:
            with recorder(ledger, "1.1") as again:
                again(Delivery("1.1", SENT))
                if state is not SENT:
                    again(Delivery("1.1", state))
        assert ledger.entry("1.1").state is state  # type: ignore[union-attr]


def test_an_acceptance_of_other_content_says_nothing(ledger: Ledger) -> None:
    for digest, state in (("old", ACCEPTED), ("new", ACCEPTED), ("old", DeliveryState.UNKNOWN)):
        with Recorder(ledger, {"1.1": digest}, task="t", before_request=lambda: None) as record:
            record(Delivery("1.1", SENT))
            record(Delivery("1.1", state))
    entry = ledger.entry("1.1")
    assert entry is not None and (entry.state, entry.digest, entry.mixed) == (DeliveryState.UNKNOWN, "old", True)


def test_an_acceptance_counts_even_when_the_try_was_replaced_meanwhile(ledger: Ledger) -> None:
    replaced = False

    def still_ours() -> None:
        if replaced:
            raise Fenced("a newer try has taken over")

    with pytest.raises(Fenced), Recorder(ledger, {"1.1": None}, task="old", before_request=still_ours) as old:
        old(Delivery("1.1", SENT))
        replaced = True
        old(Delivery("1.1", ACCEPTED, "0000"))
    assert ledger.entry("1.1").state is ACCEPTED  # type: ignore[union-attr]
