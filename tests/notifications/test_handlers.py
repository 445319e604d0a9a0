"""Handlers in a store that several processes use at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
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


def test_one_that_lapses_while_it_is_removed_stays_away(tmp_path: Path) -> None:
    handlers, wanted = Handlers(Meanwhile(tmp_path, "")), handler(keyed=True)
    handlers.add(wanted)
    assert handlers.lapse(wanted, "no right").lapsed == "no right"
    assert handlers.get(wanted.id) is None


def test_of_one_without_a_key_nothing_stays(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    handlers, wanted = Handlers(store), handler()
    handlers.add(wanted)
    handlers.confirm(wanted, datetime.now(timezone.utc) + timedelta(hours=2))
    assert len(list(store.list("notifications"))) == 2
    handlers.remove(wanted.id)
    assert not list(store.list("notifications"))


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
