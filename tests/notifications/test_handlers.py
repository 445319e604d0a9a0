"""Handlers in a store that several processes use at once."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_monai.errors import StoreError
from airflow_monai.lifecycle.happening import What
from airflow_monai.notifications.handlers import Handler, Handlers
from airflow_monai.notifications.lasting import Lasting
from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from tests.store.conftest import make_store, s3  # noqa: F401


def handler(*, keyed: bool = False) -> Handler:
    now = datetime.now(timezone.utc).isoformat()
    what = (What.WORKFLOW_COMPLETED,)
    return Handler(str(uuid.uuid4()), "http://127.0.0.1/", what, (), (), "secret", "anna", now, 1, keyed=keyed)


class Meanwhile(LocalStore):
    """Another process does something just before a handler is written."""

    def __init__(self, root: Path, does: str):
        super().__init__(root)
        self.does = does
        self.other = Handlers(LocalStore(root))

    def create(self, key: str, data: bytes) -> bool:
        if self.does and key.startswith("notifications/handlers/"):
            LocalStore(self.root).create(key, data)
            if self.does == "registers and removes":
                self.other.remove(self.other.ids()[0])
        return super().create(key, data)

    def write(self, key: str, data: bytes, durable: bool = True) -> None:
        if key.startswith("notifications/handlers/"):
            self.other.remove(self.other.ids()[0])
        super().write(key, data, durable)


@pytest.mark.parametrize(("does", "left"), [("", 1), ("registers", 1), ("registers and removes", 0)])
def test_two_that_register_under_one_key_make_one_and_none_after_it_was_removed(
    tmp_path: Path, does: str, left: int
) -> None:
    handlers, wanted = Handlers(Meanwhile(tmp_path, does)), handler(keyed=True)
    assert handlers.add(wanted) is not bool(does)
    assert len(handlers.ids()) == left
    handlers.remove(wanted.id)
    assert not handlers.add(wanted) and handlers.ids() == []


@pytest.mark.parametrize("keyed", [True, False])
def test_one_that_lapses_while_it_is_removed_stays_away(tmp_path: Path, keyed: bool) -> None:
    handlers, wanted = Handlers(Meanwhile(tmp_path, "")), handler(keyed=keyed)
    handlers.add(wanted)
    assert handlers.lapse(wanted, "no right").lapsed == "no right"
    assert handlers.get(wanted.id) is None and handlers.ids() == []


@pytest.mark.parametrize("keyed", [True, False])
def test_of_one_that_is_removed_stays_for_90_days_that_it_was(tmp_path: Path, keyed: bool) -> None:
    store = LocalStore(tmp_path)
    handlers, wanted, later, last = Handlers(store), handler(keyed=keyed), handler(), handler()
    handlers.add(wanted)
    handlers.confirm(wanted, datetime.now(timezone.utc) + timedelta(hours=2))
    assert len(list(store.list("notifications"))) == 2
    handlers.remove(wanted.id)
    note = f"notifications/removed/{wanted.id}.json"
    assert list(store.list("notifications")) == [note]
    for days, other, stays in ((89, later, True), (91, last, False)):
        long_ago = time.time() - days * 86400
        os.utime(tmp_path / note, (long_ago, long_ago))
        handlers.add(other)
        handlers.remove(other.id)
        assert store.exists(note) is stays
    assert len(list(store.list("notifications"))) == 2, "those that were just removed"


REASON = "Its owner has no right any more to start what it is told of."


def of_an_earlier_version(store: Store, *, lapsed: bool) -> Handler:
    """A handler as it was written when another object said that it has lapsed."""
    made = handler()
    data = {name: value for name, value in made.to_dict().items() if name not in ("keyed", "made_secret", "lapsed")}
    store.create_json(f"notifications/handlers/{made.id}.json", data)
    if lapsed:
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        store.create_json(f"notifications/lapsed/{made.id}.json", {"at": at, "reason": REASON})
    return made


def test_one_that_lapsed_under_an_earlier_version_stays_so(make_store: Callable[[], Store]) -> None:  # noqa: F811
    store = make_store()
    lapsed, lasts = of_an_earlier_version(store, lapsed=True), of_an_earlier_version(store, lapsed=False)
    assert Lasting(Handlers(store), lasts).look() == ""
    assert Lasting(Handlers(store), lapsed).look() == REASON, "also who has read it otherwise"
    for handlers in (Handlers(store), Handlers(store)):
        assert {one.id: one.lapsed for one in handlers.all()} == {lapsed.id: REASON, lasts.id: ""}
        store.delete(f"notifications/lapsed/{lapsed.id}.json")  # it is in the handler by now
    handlers.lapse(lasts, "no right")
    assert [handlers.get(one.id) for one in (lasts, lapsed)] == [
        replace(lasts, lapsed="no right"),
        replace(lapsed, lapsed=REASON),
    ]


def test_what_an_earlier_version_noted_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = LocalStore.read

    def noted(self: LocalStore, key: str) -> bytes:
        asked.append(key)
        return read(self, key)

    store = LocalStore(tmp_path)
    lapsed, lasts = of_an_earlier_version(store, lapsed=True), of_an_earlier_version(store, lapsed=False)
    new = handler()
    handlers = Handlers(store)
    handlers.add(new)
    monkeypatch.setattr(LocalStore, "read", noted)
    for _ in range(3):
        assert len(handlers.all()) == 3
    before = sorted(key for key in asked if key.startswith("notifications/lapsed/"))
    assert before == sorted(f"notifications/lapsed/{one.id}.json" for one in (lapsed, lasts))
    assert len(asked) == 3 * 3 + 2


def test_one_of_an_earlier_version_is_removed_whole(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    removed, meanwhile = (of_an_earlier_version(store, lapsed=True) for _ in range(2))
    Handlers(store).remove(removed.id)
    assert Handlers(Meanwhile(tmp_path, "")).get(meanwhile.id) is None, "removed while that was taken over"
    notes = [f"notifications/removed/{one.id}.json" for one in (removed, meanwhile)]
    assert list(store.list("notifications")) == sorted(notes)


@pytest.mark.parametrize("holds", [b"", b"[]", b'{"at": "2026-03-01T10:05:00+00:00"}'])
def test_one_of_which_nobody_can_read_whether_it_has_lapsed_is_told_nothing(tmp_path: Path, holds: bytes) -> None:
    store = LocalStore(tmp_path)
    made = of_an_earlier_version(store, lapsed=True)
    store.write(f"notifications/lapsed/{made.id}.json", holds)
    with pytest.raises(StoreError, match="lapsed/"):
        Lasting(Handlers(store), made).look()


def test_one_that_cannot_be_read_is_not_taken_for_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: LocalStore, key: str) -> bytes:
        raise StoreError("away")

    handlers, wanted = Handlers(LocalStore(tmp_path)), handler()
    handlers.add(wanted)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "read", away)
        with pytest.raises(StoreError, match="away"):
            handlers.get(wanted.id)
        assert handlers.get(str(uuid.uuid4())) is None
    LocalStore(tmp_path).write(f"notifications/handlers/{wanted.id}.json", b'{"id": 1}')
    with pytest.raises(StoreError, match="damaged"):
        handlers.get(wanted.id)


def test_the_life_of_a_handler_in_any_store(make_store: Callable[[], Store]) -> None:  # noqa: F811
    store, wanted = make_store(), handler(keyed=True)
    handlers, elsewhere = Handlers(store), Handlers(store)
    assert handlers.get(wanted.id) is None and handlers.all() == []
    assert handlers.add(wanted) and not elsewhere.add(wanted)
    lasting = Lasting(handlers, wanted)
    assert lasting.look() == "" and elsewhere.all() == [wanted]
    late = datetime.now(timezone.utc) + timedelta(hours=2)
    elsewhere.confirm(wanted, late)
    assert handlers.standing(wanted).confirmed == late
    elsewhere.lapse(wanted, "no right")
    assert lasting.look() == lasting.over == "no right"
    elsewhere.remove(wanted.id)
    assert handlers.get(wanted.id) is None and not handlers.add(wanted) and handlers.ids() == []
