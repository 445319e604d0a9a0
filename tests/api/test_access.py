"""Who may: Airflow's auth manager decides, also for names and passwords."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from airflow_monai.api.common.access import Right, TheCaller, needs
from airflow_monai.api.common.problems import BrokenOff
from airflow_monai.api.runs import site_store

Api = Callable[[str | None], TestClient]


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()

    @router.get("/who")
    def who(caller: TheCaller) -> str:
        return caller.name

    @router.post("/start", dependencies=[needs(Right.START_RUNS)])
    def start() -> str:
        return "started"

    @router.get("/broken")
    def broken() -> None:
        raise OSError("/secret/folder of Doe^Jane")

    @router.get("/half")
    def half() -> StreamingResponse:
        def pieces() -> Iterator[bytes]:
            yield b"half"
            raise OSError("/secret/folder of Doe^Jane")

        return StreamingResponse(pieces())

    @router.get("/object/{name}")
    def read(name: str) -> int:
        return site_store().size(f"objects/{name}")

    @router.get("/number/{number}")
    def find(number: int) -> int:
        from airflow.models import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return len(session.scalars(select(TaskInstance).offset(number)).all())

    monkeypatch.setattr("airflow_monai.api.app._apis", lambda: [router])


def test_rights_are_those_of_airflow_s_roles(routed: None, api: Api) -> None:
    assert api("viewer").get("/who").json() == "viewer"
    assert api("viewer").post("/start").status_code == 403
    assert api("user").post("/start").json() == "started"
    nobody = api(None).get("/who")
    assert nobody.status_code == 401 and "Bearer" in nobody.headers["www-authenticate"]
    assert nobody.headers["content-type"] == "application/problem+json"
    assert nobody.json()["status"] == 401 and nobody.json()["instance"] == "/who"


def test_a_name_and_a_password_are_a_log_in(routed: None, api: Api) -> None:
    assert api(None).get("/who", auth=("user", "user")).json() == "user"
    assert api(None).post("/start", auth=("viewer", "viewer")).status_code == 403
    for name, password in (("user", "admin"), ("user", ""), ("nobody", "user"), ("", "")):
        assert api(None).get("/who", auth=(name, password)).status_code == 401
    for scheme in ("Basic", "Basic %%%", "Basic dXNlcg==", "Bearer x", "Digest x"):
        assert api(None).get("/who", headers={"authorization": scheme}).status_code == 401


def test_a_page_of_another_site_changes_nothing(routed: None, api: Api, people: Callable[[str], str]) -> None:
    client = api(None)
    client.cookies.set("_token", people("admin"))
    assert client.post("/start").json() == "started"
    password = {"authorization": "Basic " + base64.b64encode(b"admin:admin").decode()}
    for asked in (client, TestClient(client.app, headers=password)):
        for said, status in (
            ({"sec-fetch-site": "cross-site"}, 403), ({"sec-fetch-site": "same-site"}, 403),
            ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403),
            ({"origin": "http://testserver"}, 200), ({"sec-fetch-site": "same-origin"}, 200), ({}, 200),
            ({"origin": "http://hospital.example", "x-forwarded-host": "hospital.example"}, 200),
        ):  # fmt: skip
            assert asked.post("/start", headers=said).status_code == status, said
    assert api("admin").post("/start", headers={"origin": "http://evil.example"}).status_code == 200, "a token is said"
    assert client.get("/who", headers={"sec-fetch-site": "cross-site"}).json() == "admin"


def test_what_nobody_foresaw_is_told_by_a_number_only(routed: None, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    answer = api("admin").get("/broken")
    assert answer.status_code == 500 and "secret" not in answer.text and "Doe" not in answer.text
    number = answer.json()["detail"].split("number ")[1].rstrip(".")
    assert number in caplog.text and "Doe" not in caplog.text and "OSError" in caplog.text
    with pytest.raises(BrokenOff) as broken:
        TestClient(api("admin").app, headers=api("admin").headers).get("/half")
    assert broken.value.__suppress_context__ and caplog.text.count("OSError") == 2 and "Doe" not in caplog.text


def test_what_can_be_no_name_and_no_number_here_is_no_error_of_the_server(routed: None, api: Api) -> None:
    for name in ("\u00f2", "..", "a:b", "a" * 300):
        assert api("admin").get(f"/object/{name}").status_code == 404
    assert api("admin").get("/object/gone").status_code == 503, "which the store should have had"
    answer = api("admin").get(f"/number/{1 << 70}")
    assert answer.status_code == 400 and "INSERT" not in answer.text and "SELECT" not in answer.text
    assert api("admin").get("/number/3").json() == 0
