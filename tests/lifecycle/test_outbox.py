"""Telling a receiver: in order for an instance, at least once, given up in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Outbox, Patience, Verdict, forget_channel, place_of, tell_again
from airflow_monai.store.local import LocalStore
from tests.lifecycle.happenings import Clock, Ear, happening

CHANNEL = "handler-x"


class Desk:
    """A journal, a receiver, and the way to it, which can be made anew as after a kill."""

    def __init__(self, folder: Path):
        self.store = LocalStore(folder)
        self.journal = Journal(self.store)
        self.clock = Clock()
        self.ear = Ear()
        self.number = 0
        self.outbox = self.anew()

    def anew(self) -> Outbox:
        patience = Patience(first=1.0, last=60.0, give_up=3600.0)
        self.outbox = Outbox(
            self.store, Journal(self.store), CHANNEL, self.ear, start=1, patience=patience, clock=self.clock
        )
        return self.outbox

    def add(self, *events: Happening) -> None:
        self.number += 1
        assert self.journal.create(self.number, events)

    def run(self, seconds: float) -> None:
        """Let time go by, and do each time what is due."""
        end = self.clock.now + seconds
        while self.clock.now <= end:
            pause = self.outbox.step()
            self.clock.now += min(pause or seconds + 1, seconds + 1)
        self.clock.now = end


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_all_is_told_once_and_in_order(desk: Desk):
    events = [happening(run, what) for run in "ab" for what in What]
    desk.add(*events[:3])
    desk.run(0)
    desk.add(*events[3:])
    desk.run(0)
    desk.anew()
    desk.run(5)
    assert desk.ear.heard == events
    assert desk.outbox.place.told == len(events)


def test_only_what_is_wanted(desk: Desk):
    desk.ear.wanted = {What.WORKFLOW_COMPLETED}
    desk.add(*(happening(run, what) for run in "ab" for what in What))
    desk.run(0)
    assert [(event.run_id, event.what) for event in desk.ear.heard] == [
        ("a", What.WORKFLOW_COMPLETED),
        ("b", What.WORKFLOW_COMPLETED),
    ]


def test_one_that_is_away_is_asked_more_and_more_seldom_and_then_told_all(desk: Desk):
    desk.ear.answer = lambda event: Verdict.AWAY
    events = [
        happening(str(number), what)
        for number in range(20)
        for what in (What.WORKFLOW_STARTED, What.WORKFLOW_COMPLETED)
    ]
    desk.add(*events)
    desk.run(600)
    assert 10 < len(desk.ear.tried) < 25
    desk.ear.answer = lambda event: Verdict.TOLD
    desk.anew()
    desk.run(61)
    assert sorted(event.id for event in desk.ear.heard) == sorted(event.id for event in events)
    for number in range(20):
        of_one = [event.what for event in desk.ear.heard if event.run_id == str(number)]
        assert of_one == [What.WORKFLOW_STARTED, What.WORKFLOW_COMPLETED]
    assert not desk.outbox.place.waiting and not desk.outbox.place.down_since


def test_one_refused_event_keeps_only_its_own_instance_waiting(desk: Desk):
    desk.ear.answer = lambda event: Verdict.REFUSED if event.run_id == "bad" else Verdict.TOLD
    desk.add(happening("bad", What.WORKFLOW_STARTED), happening("good"), happening("bad"))
    desk.run(30)
    assert [event.run_id for event in desk.ear.heard] == ["good"]
    assert {event.what for event in desk.ear.tried if event.run_id == "bad"} == {What.WORKFLOW_STARTED}
    desk.ear.answer = lambda event: Verdict.TOLD
    desk.run(61)
    assert [event.what for event in desk.ear.heard[1:]] == [What.WORKFLOW_STARTED, What.WORKFLOW_COMPLETED]


def test_one_that_always_refuses_one_event_goes_on_with_all_others(desk: Desk):
    """Also when it has refused so many that it counts as away."""
    desk.ear.answer = lambda event: Verdict.REFUSED
    desk.add(*(happening(f"bad-{number}") for number in range(10)))
    desk.run(300)
    desk.ear.answer = lambda event: Verdict.REFUSED if event.run_id.startswith("bad") else Verdict.TOLD
    desk.add(*(happening(f"good-{number}") for number in range(30)))
    desk.run(1200)
    assert [event.run_id for event in desk.ear.heard] == [f"good-{number}" for number in range(30)]


def test_what_is_told_in_vain_is_given_up_and_listed(desk: Desk):
    desk.ear.answer = lambda event: Verdict.AWAY
    desk.add(*(happening(str(number)) for number in range(5)))
    desk.run(3500)
    assert desk.outbox.place.failed == 0
    desk.run(300)
    assert desk.outbox.place.failed == 5
    place = place_of(desk.store, CHANNEL)
    assert place is not None and [one.reason for one in place.given_up] == ["because"] * 5
    desk.ear.answer = lambda event: Verdict.TOLD
    desk.add(happening("later", at="2026-03-01T11:10:00+00:00"))
    desk.run(120)
    assert [event.run_id for event in desk.ear.heard] == ["later"]


def test_what_is_old_when_it_is_seen_is_tried_all_the_same(desk: Desk):
    desk.clock.now += 100_000
    desk.add(happening())
    desk.run(0)
    assert len(desk.ear.heard) == 1


def test_a_stop_in_between_loses_nothing(desk: Desk):
    events = [happening(str(number)) for number in range(6)]
    desk.ear.answer = lambda event: Verdict.STOPPED if len(desk.ear.heard) == 3 else Verdict.TOLD
    desk.add(*events)
    desk.outbox.step()
    desk.ear.answer = lambda event: Verdict.TOLD
    desk.anew().step()
    assert desk.ear.heard == events


def test_a_forgotten_channel_leaves_nothing(desk: Desk):
    desk.ear.answer = lambda event: Verdict.AWAY
    desk.add(happening())
    desk.run(1)
    forget_channel(desk.store, CHANNEL)
    assert list(desk.store.list("lifecycle/channels")) == []


def test_one_that_comes_back_after_the_journal_was_cut_goes_on_with_what_there_is(desk: Desk):
    desk.add(happening("a"))
    desk.add(happening("b"))
    desk.store.delete("lifecycle/journal/0000000/0000000001.json")
    desk.anew().step()
    assert [event.run_id for event in desk.ear.heard] == ["b"]


def test_what_was_given_up_can_be_told_again(desk: Desk):
    desk.ear.answer = lambda event: Verdict.AWAY
    desk.add(happening("a", What.WORKFLOW_STARTED), happening("a"), happening("b"))
    desk.run(4000)
    assert desk.outbox.place.failed == 3
    desk.ear.answer = lambda event: Verdict.TOLD
    tell_again(desk.store, CHANNEL, [one.event_id for one in desk.outbox.place.given_up])
    desk.anew()
    desk.run(6)
    assert sorted((event.run_id, event.what.value) for event in desk.ear.heard) == [
        ("a", "workflow.completed"),
        ("a", "workflow.started"),
        ("b", "workflow.completed"),
    ]
    assert next(event.what.value for event in desk.ear.heard if event.run_id == "a") == "workflow.started"
    assert desk.outbox.place.failed == 0
    assert not list(desk.store.children(f"lifecycle/channels/{CHANNEL}/again"))
