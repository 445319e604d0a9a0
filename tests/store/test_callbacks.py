"""Answers that services send: by token only, and the first one counts."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_monai.store import Store
from airflow_monai.store.callbacks import await_callback, resolve_callback
from airflow_monai.store.deletion import DELETIONS
from airflow_monai.store.giving import Reception, Waiting
from airflow_monai.store.payloads import deleted_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus

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


@pytest.mark.parametrize("key", [f"{DELETIONS}/{WAITING.payload_id}", deleted_key(WAITING.payload_id)])
def test_nothing_is_kept_of_a_deleted_payload(store: Store, key: str) -> None:
    store.write_json(key, {"requested": "2026-03-01T10:00:00+00:00", "by": "anna", "reason": ""})
    assert resolve_callback(store, TOKEN, {"name": "Mustermann"}) is Reception.UNKNOWN
    assert answer(store) is None


def test_nothing_is_kept_of_a_payload_that_is_deleted_just_then(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    create = store.create_json

    def deleted_first(key: str, value: object) -> bool:
        store.write_json(deleted_key(WAITING.payload_id), {})
        return create(key, value)

    monkeypatch.setattr(store, "create_json", deleted_first)
    assert resolve_callback(store, TOKEN, {"name": "Mustermann"}) is Reception.UNKNOWN
    assert answer(store) is None


def test_the_token_of_a_task_that_has_ended_opens_nothing(store: Store) -> None:
    folder = RunFolder(store, WAITING.payload_id, "ct", "run")
    folder.write_record(TaskRecord("job", "http_async", TaskStatus.SUCCEEDED, "e"))
    assert resolve_callback(store, TOKEN, {}) is Reception.UNKNOWN
    assert answer(store) is None
