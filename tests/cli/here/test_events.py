"""``airflow monai events``: what a person sees of those who are told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from airflow_monai.cli.here import events as command
from airflow_monai.errors import InvalidArgument
from airflow_monai.lifecycle.happening import What
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Outbox, Patience, Verdict
from airflow_monai.notifications.handlers import Handler, Handlers
from airflow_monai.store.local import LocalStore
from tests.lifecycle.happenings import Clock, Ear, happening

HANDLER = "3f0c6a52-5f0b-4c9e-9d7e-0c1a4a4a7d55"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path)
    done = (What.WORKFLOW_COMPLETED,)
    handler = Handler(HANDLER, "https://ris.example/", done, (), (), "secret", "anna", "2026-03-01T10:00:00+00:00", 1)
    Handlers(store).add(handler)
    return store


def told(store: LocalStore, channel: str, ear: Ear, clock: Clock) -> None:
    outbox = Outbox(store, Journal(store), channel, ear, start=1, patience=Patience(give_up=3600), clock=clock)
    outbox.step()


def printed(run: str, *args: object) -> tuple[int, str]:
    out = io.StringIO()
    return getattr(command, run)(*args, out), out.getvalue()


def test_what_waits_and_what_was_given_up(store: LocalStore):
    clock = Clock()
    for run in "ab":
        Journal(store).create(1 + "ab".index(run), [happening(run, what) for what in What])
    ear = Ear(lambda event: Verdict.AWAY)
    ear.wanted = {What.WORKFLOW_COMPLETED}
    told(store, f"handler-{HANDLER}", ear, clock)
    code, text = printed("run_list", store, False)
    assert code == 0 and HANDLER in text and "waiting 1, failed 0; failing since" in text and "because" in text
    _, text = printed("run_show", store, HANDLER, True)
    assert [(row["state"], row["tries"]) for row in json.loads(text)["events"]] == [("waiting", 1), ("pending", 0)]
    assert "secret" not in text

    clock.now += 4000
    told(store, f"handler-{HANDLER}", ear, clock)
    _, text = printed("run_show", store, HANDLER, False)
    assert text.count("failed") == 2 and "tried 1 times: because" in text
    code, text = printed("run_retry", store, HANDLER, [happening("a").id])
    assert code == 0 and text.startswith("1 event is told")
    ear.answer = lambda event: Verdict.TOLD
    clock.now += 10
    told(store, f"handler-{HANDLER}", ear, clock)
    assert [event.run_id for event in ear.heard] == ["a"]
    assert printed("run_retry", store, HANDLER, ["nothing"])[0] == 1


def test_the_broker_is_listed_when_it_was_told(store: LocalStore):
    Journal(store).create(1, [happening("a")])
    told(store, "broker", Ear(), Clock())
    _, text = printed("run_list", store, True)
    assert [(one["channel"], one["told"]) for one in json.loads(text)] == [(HANDLER, 0), ("broker", 1)]
    with pytest.raises(InvalidArgument, match="events list"):
        printed("run_show", store, "nobody", False)
