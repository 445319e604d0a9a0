"""Who is told on a site, and what it costs to know: handlers in a store that counts, told over real HTTP."""

from __future__ import annotations

import gc
import types
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.gateway.receivers import site_receivers
from airflow_monai.hooks.fernet import AirflowFernet
from airflow_monai.lifecycle.happening import What
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Outbox, Verdict
from airflow_monai.lifecycle.receiver import Receivers
from airflow_monai.notifications.handlers import DAYS, Handler, Handlers
from airflow_monai.store.local import LocalStore
from tests.lifecycle.happenings import happening
from tests.notifications.receiver import Receiver

REQUESTS = ("read", "exists", "size", "children", "list", "entries", "write", "create", "delete", "delete_tree")


class Counting(LocalStore):
    """Counts what is asked about handlers: in a bucket each is a request."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.asked: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Since it was asked last."""
        count = self.asked.total()
        self.asked.clear()
        return count


def _counted(name: str) -> Callable[..., Any]:
    real = getattr(LocalStore, name)

    def method(self: Counting, key: str, *args: Any, **more: Any) -> Any:
        if key.startswith("notifications/"):
            self.asked[name] += 1
        return real(self, key, *args, **more)

    return method


for _name in REQUESTS:
    setattr(Counting, _name, _counted(_name))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    from airflow.sdk import crypto
    from cryptography.fernet import Fernet

    monkeypatch.setenv("AIRFLOW__MONAI__NOTIFICATION_HOSTS", "127.0.0.1")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    crypto.get_fernet.cache_clear()
    yield Counting(tmp_path)
    crypto.get_fernet.cache_clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.secret = "known to both of us"
    yield made
    made.stop()


def register(store: LocalStore, url: str = "http://127.0.0.1:1/", days_ago: float = 0.0) -> Handler:
    handler = Handler(
        id=str(uuid.uuid4()),
        url=url,
        events=tuple(What),
        dag_ids=(),
        jobs=(),
        secret=AirflowFernet().encrypt("known to both of us"),
        owner="anna",
        registered=(datetime.now(timezone.utc) - timedelta(days=days_ago)).isoformat(),
        start=1,
    )
    Handlers(store).add(handler)
    return handler


def outbox(store: LocalStore, receivers: Receivers, handler: Handler) -> Outbox:
    teller = receivers()[handler.channel].teller()
    return Outbox(store, Journal(store), handler.channel, teller, start=handler.start)


def test_a_notification_costs_one_request_about_its_handler(store: Counting, receiver: Receiver) -> None:
    """And nobody's costs any while nothing happens, besides the one that lists them."""
    handlers = [register(store, receiver.url, days_ago=1) for _ in range(3)]
    Handlers(store).confirm(handlers[0])
    receivers = site_receivers(store)
    telling = outbox(store, receivers, handlers[0])
    Journal(store).create(1, [happening(str(number)) for number in range(20)])
    assert store.count
    telling.step()
    assert len(receiver.got) == 20 and not receiver.bad
    assert store.count == 20
    for _ in range(5):
        assert len(receivers()) == 3
    assert store.count == 5


def test_none_is_told_after_another_process_unregistered_it_or_let_it_lapse(
    store: Counting, receiver: Receiver
) -> None:
    gone, lapsed, told = [register(store, receiver.url) for _ in range(3)]
    receivers = site_receivers(store)
    tellers = {one.id: receivers()[one.channel].teller() for one in (gone, lapsed, told)}
    assert [tellers[one.id].tell(happening("a")).verdict for one in (gone, lapsed, told)] == [Verdict.TOLD] * 3
    elsewhere = Handlers(LocalStore(store.root))
    elsewhere.remove(gone.id)
    elsewhere.lapse(lapsed, "no right")
    attempts = [tellers[one.id].tell(happening("b")) for one in (gone, lapsed, told)]
    assert [one.verdict for one in attempts] == [Verdict.STOPPED, Verdict.STOPPED, Verdict.TOLD]
    assert "not registered" in attempts[0].reason and attempts[1].reason == "no right"
    assert len(receiver.got) == 4
    assert list(receivers()) == list(site_receivers(store)()) == [told.channel]


def test_one_whose_owner_asks_in_time_goes_on_and_another_lapses_for_good(
    store: Counting, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were told by this process before their time came."""
    late, asked = [register(store, receiver.url, days_ago=DAYS - 1) for _ in range(2)]
    receivers = site_receivers(store)
    tellers = {one.id: receivers()[one.channel].teller() for one in (late, asked)}
    assert {tellers[one.id].tell(happening("a")).verdict for one in (late, asked)} == {Verdict.TOLD}
    Handlers(LocalStore(store.root)).confirm(asked)
    now = datetime.now(timezone.utc)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now + timedelta(days=2)

    with monkeypatch.context() as patch:
        patch.setattr("airflow_monai.notifications.lasting.datetime", Later)
        assert tellers[asked.id].tell(happening("b")).verdict is Verdict.TOLD
        assert list(receivers()) == [asked.channel]
        assert tellers[late.id].tell(happening("b")).verdict is Verdict.STOPPED
    assert len(receiver.got) == 3
    found = Handlers(store).get(late.id)
    assert found is not None and "90 days" in found.lapsed, "its owner cannot have it told again what it was told"


def test_of_those_who_left_nothing_is_kept(store: Counting) -> None:
    receivers = site_receivers(store)
    stays, leaves = register(store), register(store, days_ago=DAYS + 1)
    assert list(receivers()) == [stays.channel]
    assert {stays.id, leaves.id} <= kept_by(receivers)
    Handlers(store).remove(leaves.id)
    assert list(receivers()) == [stays.channel]
    assert {stays.id, leaves.id} & kept_by(receivers) == {stays.id}


def kept_by(function: Any) -> set[str]:
    """All texts that can be reached from what a function has closed over."""
    seen: dict[int, Any] = {}
    stack = list(function.__closure__)
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType)):
            continue
        seen[id(one)] = one
        stack += one.__closure__ or () if isinstance(one, types.FunctionType) else gc.get_referents(one)
        stack += one if isinstance(one, dict) else ()  # texts that are keys are no referents
    return {one for one in seen.values() if isinstance(one, str)}
