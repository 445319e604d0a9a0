"""Credentials: written and never read, kept by Airflow, for those who may."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

Api = Callable[[str | None], TestClient]
PATH = "/workflow-manager/credentials"
SECRET = "hunter2-and-more"
SERVICE = {"id": "service", "type": "bearer", "host": "https://ai.example", "secret": SECRET}


def connection(conn_id: str) -> dict[str, Any]:
    """What a task gets."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalar(select(Connection).where(Connection.conn_id == conn_id))
        assert found is not None
        return {
            "type": found.conn_type, "host": found.host, "login": found.login, "password": found.password,
            "extra": found.extra_dejson, "schema": found.schema,
        }  # fmt: skip


def in_database(text: str) -> bool:
    """Whether a text stands anywhere in the connections or the audit log, as the database has them."""
    from airflow.utils.session import create_session
    from sqlalchemy import text as sql

    with create_session() as session:
        rows = [*session.execute(sql("SELECT * FROM connection")), *session.execute(sql("SELECT * FROM log"))]
        return text in repr(rows)


def test_the_life_of_a_credential(api: Api) -> None:
    made = api("op").post(PATH, json=SERVICE)
    shown = {
        "id": "service", "type": "bearer", "description": "", "host": "https://ai.example", "port": None, "login": "",
        "header": "", "has_secret": True, "options": [],
    }  # fmt: skip
    assert (made.status_code, made.json()) == (201, shown)
    assert api("op").get(PATH).json() == [shown] and api("op").get(f"{PATH}/service").json() == shown
    assert connection("service")["extra"] == {"headers": {"Authorization": f"Bearer {SECRET}"}}
    changed = api("op").put(f"{PATH}/service", json={"type": "bearer", "host": "https://new.example"})
    assert changed.status_code == 200 and changed.json()["host"] == "https://new.example"
    assert connection("service")["extra"] == {"headers": {"Authorization": f"Bearer {SECRET}"}}, "it stays"
    basic = {"type": "basic", "host": "https://new.example", "login": "anna", "secret": "other-secret"}
    assert api("op").put(f"{PATH}/service", json=basic).json()["type"] == "basic"
    assert connection("service") == {
        "type": "http", "host": "https://new.example", "login": "anna", "password": "other-secret", "extra": {},
        "schema": None,
    }  # fmt: skip
    assert api("op").delete(f"{PATH}/service").status_code == 204
    assert api("op").get(f"{PATH}/service").status_code == api("op").delete(f"{PATH}/service").status_code == 404
    assert api("op").put(f"{PATH}/service", json=basic).status_code == 404
    assert noted() == ["create", "update", "update", "delete"]


def noted() -> list[str]:
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.execute(select(Log.event, Log.owner, Log.extra).order_by(Log.id)).all()
    assert all(owner == "op" and json.loads(extra)["credential"] == "service" for _, owner, extra in found)
    return [event.removeprefix("monai.credential.") for event, _, _ in found]


def test_a_secret_is_told_nowhere(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [api("op").post(PATH, json=SERVICE), api("op").post(PATH, json=SERVICE)]
    answers += [api("op").get(PATH), api("op").get(f"{PATH}/service")]
    for bad in (
        {"secret": [SECRET]}, {"secret": SECRET * 1000}, {"secret": f"{SECRET}\n"}, {"type": SECRET.upper()},
        {"options": SECRET}, {"options": {"headers": {"a": SECRET}}}, {"port": SECRET}, {SECRET[:3]: 1},
        {"type": "http"}, {"login": "x"}, {"header": f"{SECRET}:"},
    ):  # fmt: skip
        answers.append(api("op").post(PATH, json={**SERVICE, "id": "other", **bad}))
        answers.append(api("op").put(f"{PATH}/service", json={**SERVICE, **bad}))
        assert [one.status_code for one in answers[-2:]] == [400, 400], bad
    text = json.dumps(SERVICE)
    answers.append(api("op").post(PATH, content=text[:-1], headers={"content-type": "application/json"}))
    answers.append(api("op").post(PATH, content=text, headers={"content-type": "text/plain"}))
    assert [one.status_code for one in answers] == [201, 409, 200, 200] + [400] * 24
    for answer in answers:
        assert SECRET not in answer.text and SECRET.upper() not in answer.text, answer.text
    assert SECRET not in caplog.text and not in_database(SECRET)


def test_rights_are_those_on_connections(api: Api) -> None:
    assert api("op").post(PATH, json=SERVICE).status_code == 201
    body = {"type": "http", "host": "x"}
    for role, status in (("viewer", 403), ("user", 403), (None, 401)):
        client = api(role)
        asked = [client.get(PATH), client.get(f"{PATH}/service"), client.get(f"{PATH}/none")]
        asked += [client.post(PATH, json=SERVICE), client.put(f"{PATH}/service", json=body)]
        asked += [client.delete(f"{PATH}/service"), client.delete(f"{PATH}/none")]
        assert {one.status_code for one in asked} == {status}
    assert connection("service")["host"] == "https://ai.example"


@pytest.mark.parametrize("conn_id", ["a b", "a/b", "../x", "", "a" * 201, "a\n", "é"])
def test_ids_are_plain(api: Api, conn_id: str) -> None:
    assert api("op").post(PATH, json={**SERVICE, "id": conn_id}).status_code == 400


def test_what_is_taken(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SERVICE", "http://elsewhere")
    assert api("op").post(PATH, json=SERVICE).status_code == 409, "the variable would be used"
    assert api("op").post(PATH, json={**SERVICE, "id": "b"}).status_code == 201
    assert api("op").post(PATH, json={**SERVICE, "id": "b"}).status_code == 409


def test_lists_are_of_a_type_and_in_parts(api: Api) -> None:
    for conn_id in "cab":
        api("op").post(PATH, json={**SERVICE, "id": conn_id})
    api("op").post(PATH, json={"id": "d", "type": "aws", "login": "AKIA", "secret": "x", "options": {"region": "eu"}})
    api("op").post(PATH, json={"id": "e", "type": "http", "host": "http://x", "options": {"verify": False}})

    def ids(**query: Any) -> list[str]:
        return [one["id"] for one in api("op").get(PATH, params=query).json()]

    assert ids() == ["a", "b", "c", "d", "e"] and ids(type="bearer") == ["a", "b", "c"]
    assert ids(type="http") == ["e"] and ids(type="aws") == ["d"] and ids(type="none") == []
    assert ids(limit=2, offset=1) == ["b", "c"]
    assert api("op").get(f"{PATH}/d").json()["options"] == ["region"]
    assert api("op").get(PATH, params={"limit": 0}).status_code == 400


def test_a_connection_that_somebody_made_in_airflow_keeps_what_is_not_asked_about(api: Api) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="old", conn_type="http", host="ai.example", schema="https", password="p"))
        session.add(Connection(conn_id="leak", conn_type="ftp", host="ftp://anna:pass@host"))
    changed = {"type": "basic", "host": "ai.example", "login": "ben"}
    assert api("op").put(f"{PATH}/old", json=changed).status_code == 200
    assert (connection("old")["schema"], connection("old")["password"]) == ("https", "p")
    assert api("op").get(f"{PATH}/leak").json()["host"] == "ftp://***@host"


def test_the_error_on_the_page_about_the_apis_is_one_that_comes(api: Api) -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert api("op").post(PATH, json={"type": "http", "host": "x"}).json() == {**json.loads(shown), "instance": PATH}
