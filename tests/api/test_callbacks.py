"""Where services call back: no log-in, the token is the right, and the first answer counts."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from airflow_monai.store.callbacks import await_callback
from airflow_monai.store.giving import Waiting
from airflow_monai.store.local import LocalStore
from airflow_monai.store.runs import RunFolder

Api = Callable[[str | None], TestClient]
WAITING = Waiting("0a1b2c3d-0000-4000-8000-000000000004", "ct", "run", "job", -1, 1, "callback")
TOKEN = secrets.token_urlsafe(32)


@pytest.fixture(autouse=True)
def waiting(site_store: LocalStore) -> None:
    await_callback(site_store, TOKEN, WAITING)


def answer(store: LocalStore) -> object:
    return store.read_json(RunFolder(store, WAITING.payload_id, "ct", "run").note_key("job", -1, 1, "callback"))["body"]


def test_the_first_answer_counts_and_may_be_sent_again(api: Api, site_store: LocalStore) -> None:
    told = [api(None).post(f"/callbacks/{TOKEN}", json={"status": "done", "number": number}) for number in range(3)]
    assert [(one.status_code, one.json()["state"]) for one in told] == [(200, "taken")] + [(200, "repeated")] * 2
    assert answer(site_store) == {"status": "done", "number": 0}
    assert noted() == [("monai.callback", "monai", "ct", "run", "job", None)]


@pytest.mark.parametrize("body", [b"", b"null"])
def test_an_answer_may_say_nothing(api: Api, site_store: LocalStore, body: bytes) -> None:
    asked = api(None).post(f"/callbacks/{TOKEN}", content=body, headers={"content-type": "application/json"})
    assert asked.json() == {"state": "taken"} and answer(site_store) is None


@pytest.mark.parametrize("token", [TOKEN[:-1], TOKEN + "A", "x", "..%2f..%2fx", "%00", "a" * 200])
def test_a_token_that_nobody_waits_for(api: Api, token: str) -> None:
    asked = api(None).post(f"/callbacks/{token}", json={})
    assert asked.status_code == 404 and asked.headers["content-type"] == "application/problem+json"
    assert noted() == []


@pytest.mark.parametrize(
    ("content", "status"),
    [(b'{"a":', 400), (b"[" * 1000, 400), (b'"' + b"x" * 5_000_000 + b'"', 413), (b'{"a": "\\u0000"}', 400)],
)
def test_what_is_no_answer_leaves_nothing(api: Api, site_store: LocalStore, content: bytes, status: int) -> None:
    asked = api(None).post(f"/callbacks/{TOKEN}", content=content, headers={"content-type": "application/json"})
    assert asked.status_code == status
    assert api(None).post(f"/callbacks/{TOKEN}", json=1).json() == {"state": "taken"}


def test_nothing_is_read_with_a_token(api: Api) -> None:
    assert api(None).get(f"/callbacks/{TOKEN}").status_code == 405


def noted() -> list[tuple[object, ...]]:
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        columns = (Log.event, Log.owner, Log.dag_id, Log.run_id, Log.task_id, Log.extra)
        return [tuple(row) for row in session.execute(select(*columns).order_by(Log.id))]


def test_after_its_payload_was_deleted_a_token_is_unknown(api: Api, site_store: LocalStore) -> None:
    site_store.write_json(f"deletions/{WAITING.payload_id}", {})
    asked = api(None).post(f"/callbacks/{TOKEN}", json={"name": "Mustermann"})
    assert asked.status_code == 404 and noted() == []
