"""Answers that services send: by token only, and the first one counts."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_monai.store import Store
from airflow_monai.store.callbacks import Reception, Waiting, await_callback, resolve_callback
from airflow_monai.store.runs import RunFolder

WAITING = Waiting("0a1b2c3d-0000-4000-8000-000000000004", "ct", "run", "job", -1, 1, "callback")
TOKEN = secrets.token_urlsafe(32)


@pytest.fixture
def store(store: Store) -> Store:
    await_callback(store, TOKEN, WAITING)
    return store


def answer(store: Store) -> object:
    key = RunFolder(store, WAITING.payload_id, "ct", "run").note_key("job", -1, 1, "callback")
    return store.read_json(key)["body"] if store.exists(key) else None


def test_of_many_answers_one_is_taken(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda number: resolve_callback(store, TOKEN, {"number": number}), range(8)))
    assert sorted(told) == [Reception.REPEATED] * 7 + [Reception.TAKEN]
    assert answer(store) == {"number": told.index(Reception.TAKEN)}


def test_waiting_again_changes_nothing(store: Store) -> None:
    await_callback(store, TOKEN, WAITING)
    assert resolve_callback(store, TOKEN, [1]) is Reception.TAKEN and answer(store) == [1]


@pytest.mark.parametrize("token", ["", "../../x", TOKEN[:-1], TOKEN + "A", "é" * 40, "a" * 5000])
def test_an_answer_that_nobody_waits_for(store: Store, token: str) -> None:
    assert resolve_callback(store, token, {}) is Reception.UNKNOWN
    assert answer(store) is None


def test_the_token_itself_is_not_in_the_store_of_callbacks(store: Store) -> None:
    (key,) = store.list("callbacks")
    assert TOKEN not in key and TOKEN not in store.read(key).decode()
