"""`airflow monai handlers` against a server; what is sent to handlers goes over real HTTP."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from airflow_monai.lifecycle.journal import Journal
from airflow_monai.store.local import LocalStore
from tests.api.app_server.test_handlers import deliver
from tests.api.app_server.test_handlers import site as site
from tests.lifecycle.happenings import happening
from tests.notifications.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def test_the_life_of_a_handler(
    command: Callable[..., str], receiver: Receiver, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = partial(command, "handlers", who="user")
    told = handlers("register", receiver.url, "--events", "workflow.started", "workflow.completed")
    receiver.secret = told.rpartition(" ")[2].strip()
    (made,) = json.loads(handlers("list", "--json"))
    assert made["events"] == ["workflow.started", "workflow.completed"] and made["id"] in handlers("list")
    assert "Delivered" in handlers("test", made["id"])
    Journal(site_store).create(1, [happening("a")])
    deliver(site_store, made["id"])
    assert "delivered" in handlers("deliveries", made["id"])
    assert [event["event"] for event in receiver.got] == ["test", "workflow.completed"] and not receiver.bad
    assert "told: 1" in handlers("show", made["id"])
    receiver.status = 500
    assert not json.loads(handlers("deliveries", made["id"], "--json"))[0]["reason"]
    handlers("test", made["id"], code=1)
    handlers("retry", made["id"], code=1)  # nothing was given up
    handlers("unregister", made["id"])
    handlers("show", made["id"], code=1)

    monkeypatch.setenv("RIS_SECRET", "known to both of us")
    words = ("register", receiver.url, "--map", "lung:1.0.0", "--workflow", "other", "--secret-env", "RIS_SECRET")
    found = json.loads(handlers(*words, "--json"))
    assert found["secret"] is None and found["dag_ids"] == ["map.lung.1.0.0", "other"]
    receiver.status, receiver.secret = 204, "known to both of us"
    handlers("test", found["id"])
    assert not receiver.bad


def test_a_handler_is_registered_once_when_the_answer_is_lost(
    command: Callable[..., str], receiver: Receiver, site_store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = httpx.Client.request

    def lost(*args: Any, **more: Any) -> Any:
        real(*args, **more)
        raise httpx.ReadError("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "request", lost)
        told = command("handlers", "register", receiver.url, code=2, who="user")
    words = shlex.split(told.partition("Try again with ")[2].partition(":")[0])
    told = command("handlers", "register", receiver.url, *words, who="user")
    receiver.secret = told.rpartition(" ")[2].strip()
    (made,) = json.loads(command("handlers", "list", "--json", who="user"))
    assert "Delivered" in command("handlers", "test", made["id"], who="user") and not receiver.bad


def test_what_is_refused_is_told_by_field(command: Callable[..., str], receiver: Receiver) -> None:
    told = command("handlers", "register", receiver.url, "--events", "everything", code=1)
    assert "refused: body.events[0]" in told
    assert command("handlers", "register", "http://10.0.0.1/", code=1).count("notification_hosts") == 1
    command("handlers", "register", receiver.url, "--secret-env", "NOWHERE", code=2)
