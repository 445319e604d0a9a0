"""One journal, whoever writes it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.lifecycle.journal import Journal, Known
from airflow_monai.lifecycle.turn import Turn
from airflow_monai.store.base import Store
from airflow_monai.store.local import LocalStore
from tests.lifecycle.happenings import Clock, happening
from tests.s3_server import s3  # noqa: F401


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path)
    return request.getfixturevalue("s3").store(tmp_path)


def all_of(store: Store) -> list[Happening]:
    journal = Journal(store)
    return [event for number in range(1, journal.end() + 1) for event in journal.read(number) or ()]


def missing(known: Known, events: list[Happening]) -> Callable[[], list[Happening]]:
    """Those whose instance is not known to have completed."""

    def follows() -> list[Happening]:
        found = []
        for event in events:
            chronicle = known.chronicle(event.instance_id)
            if chronicle is None or not chronicle.completed:
                found.append(event)
        return found

    return follows


def test_several_that_write_at_once_write_everything_once(store: Store):
    events = [happening(str(number)) for number in range(20)]

    def write(first: int) -> None:
        known = Known(store, Journal(store))
        for number in range(first, 20 + first):
            known.add(missing(known, [events[number % 20]]))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 3, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(event.id for event in all_of(store)) == Counter(event.id for event in events)


def test_one_that_was_killed_is_gone_on_from_where_it_was(store: Store):
    first = Known(store, Journal(store))
    first.add(missing(first, [happening("a")]))
    first.note()
    first.add(missing(first, [happening("b")]))
    store.delete_tree("lifecycle/instances")  # a power cut may leave none of it
    store.write_json("lifecycle/known.json", {"through": 0})
    second = Known(store, Journal(store))
    second.add(missing(second, [happening("a"), happening("b"), happening("c")]))
    assert [event.run_id for event in all_of(store)] == ["a", "b", "c"]


def test_what_is_old_and_told_goes_with_what_is_known_of_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    from airflow_monai.lifecycle import journal as module

    monkeypatch.setattr(module, "_IN_A_FOLDER", 10)
    journal = Journal(store)
    known = Known(store, journal)
    for number in range(35):
        known.add(missing(known, [happening(str(number))]))
    known.note()
    removed = journal.forget_before(25, lambda event: True)
    known.forget(removed)
    assert [event.run_id for event in removed] == [str(number) for number in range(19)]
    assert journal.first() == 20 and journal.end() == 35
    assert len(list(store.list("lifecycle/instances"))) == 16
    again = Known(store, Journal(store))
    assert again.catch_up() == 35


def test_only_one_has_the_turn_and_another_takes_over_when_it_is_gone(store: Store):
    clock = Clock()
    one, other = Turn(store, clock), Turn(store, clock)
    assert one.ask() and one.held
    for _ in range(30):
        clock.now += 1
        assert one.ask() and not other.ask()
    for _ in range(9):
        clock.now += 1
        assert not other.ask()
    assert not one.held
    clock.now += 3
    assert other.ask() and other.held
    assert not one.ask() and not one.held
    other.give_up()
    assert one.ask() and not other.ask()


@pytest.fixture
def turns(store: Store) -> Iterator[list[Turn]]:
    yield [Turn(store) for _ in range(4)]


def test_of_several_that_ask_at_once_one_gets_the_turn(turns: list[Turn]):
    got: list[bool] = []
    threads = [threading.Thread(target=lambda turn=turn: got.append(turn.ask())) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(True) == 1


def test_events_survive_being_written(store: Store):
    events = [happening("a", what) for what in What]
    assert Journal(store).create(1, events)
    assert Journal(store).read(1) == tuple(events)
    assert not Journal(store).create(1, events)
