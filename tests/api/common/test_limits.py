"""How much one caller may ask, and how large a request may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient

from airflow_monai.api.common import limits, options
from airflow_monai.api.common.access import TheCaller
from airflow_monai.api.common.limits import Buckets, Limits, remember, takes_upload
from airflow_monai.api.common.options import ApiOptions, parse_rate
from airflow_monai.api.common.problems import handle_errors
from airflow_monai.errors import SettingsError

Api = Callable[[str | None], TestClient]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def router() -> APIRouter:
    made = APIRouter()

    @made.get("/who")
    def who(caller: TheCaller) -> str:
        return caller.name

    @made.get("/named/{name}")
    def named(name: str, request: Request, q: str = "") -> str:
        remember(request, name)
        return name

    @made.post("/json")
    def take(body: dict[str, Any]) -> int:
        return len(body)

    @made.post("/upload")
    @takes_upload
    async def upload(request: Request) -> int:
        return sum([len(block) async for block in request.stream()])

    @made.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    return made


def client(clock: Clock | None = None, **changes: Any) -> TestClient:
    app = FastAPI()
    handle_errors(app)
    app.add_middleware(Limits, options=ApiOptions(**changes), clock=clock or Clock())
    app.include_router(router())
    return TestClient(app, raise_server_exceptions=False)


def test_a_bucket_fills_at_its_rate(clock: Clock) -> None:
    buckets = Buckets(rate=2, burst=3, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0, "others have their own"
    clock.now += 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    clock.now += 1000
    assert [bool(buckets.take("a")) for _ in range(4)] == [False, False, False, True]
    assert Buckets(rate=0, burst=1, clock=clock).take("a") == 0


def test_callers_without_number_take_bounded_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS", 10)
    buckets = Buckets(rate=1, burst=1, clock=clock)
    for number in range(1000):
        buckets.take(number)
        assert buckets.take("who asks all the time is not forgotten") == (0 if number == 0 else 1)
    assert len(buckets._levels) == 10


def test_who_asks_too_often_is_told_when_to_come_again(clock: Clock) -> None:
    asking = client(clock, rate=0.1, burst=2)
    assert [asking.get("/named/anna").status_code for _ in range(3)] == [200, 200, 429]
    answer = asking.get("/named/anna")
    assert answer.headers["retry-after"] == "10"
    assert answer.headers["content-type"] == "application/problem+json" and answer.json()["status"] == 429
    clock.now += 10
    assert asking.get("/named/anna").status_code == 200


def test_a_known_caller_is_counted_by_name_and_strangers_by_address(clock: Clock) -> None:
    asking = client(clock, rate=0.001, burst=3)

    def ask(name: str, token: str) -> int:
        return asking.get(f"/named/{name}", headers={"authorization": f"Bearer {token}"}).status_code

    assert [ask("anna", "a1"), ask("ben", "b1")] == [200, 200]  # the first ones count for the address
    assert [ask("anna", "a1") for _ in range(4)] == [200, 200, 200, 429]
    assert ask("ben", "b1") == 200, "one caller does not use up another one's"
    assert [ask("x", f"guess {number}") for number in range(3)] == [200, 429, 429], "guesses are of one address"
    clock.now += limits.KNOWN_SECONDS + 1
    assert ask("ben", "b1") == 429, "and so is who was known long ago"


def test_the_app_counts_whom_airflow_knows(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_monai.api.app._apis", lambda: [router()])
    monkeypatch.setenv("AIRFLOW__MONAI__API_RATE", "1/h")
    monkeypatch.setenv("AIRFLOW__MONAI__API_BURST", "4")
    from airflow_monai.api.app import create_app

    def asked(app: FastAPI, made: TestClient, times: int, **more: Any) -> list[int]:
        asking = TestClient(app, headers=made.headers, raise_server_exceptions=False)
        return [asking.get("/who", **more).status_code for _ in range(times)]

    app = create_app()
    assert asked(app, api("viewer"), 6) == [200] * 5 + [429]
    assert asked(app, api(None), 3, auth=("viewer", "viewer")) == [200, 429, 429], "the same name by a password"
    assert asked(app, api("admin"), 2) == [200, 200]
    assert asked(app, api(None), 2) == [401, 429]


def test_a_large_request_is_refused_unless_its_route_takes_uploads() -> None:
    asking = client(max_body=1000)
    large = b"x" * 5000

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield large[:100]

    for path in ("/json", "/raw"):
        for content in (large, pieces()):
            answer = asking.post(path, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 413 and "api_max_body" in answer.json()["detail"], (path, answer.text)
    assert asking.post("/upload", content=pieces()).json() == 5000
    assert asking.post("/raw", content=large[:1000]).json() == 1000
    assert asking.post("/json", json={"a": 1}).json() == 1


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (json.dumps({"a": "[" * 500 + '"{' * 500}), 200),
        ('{"a":' * 100 + "1" + "}" * 100, 400),
        ("[" * 100_000, 400),
        ('{"a": "\\u0000"}', 400),
        ('{"a": "\\\\u0000"}', 200),
        ('{"a": "\\ud83d\\ude00"}', 200),
        ('{"a": "\\ud83d"}', 400),
        ('{"a": "\\ude00\\ud83d"}', 400),
        ('{"a": NaN', 400),
        ('{"a":' * 60 + "1" + "}" * 60, 200),
    ],
)
def test_a_document_that_nothing_here_can_live_with(document: str, status: int) -> None:
    for kind in ("application/json", "Application/JSON"):
        answer = client().post("/json", content=document, headers={"content-type": kind})
        assert answer.status_code == status, answer.text


def test_no_nul_gets_as_far_as_a_database() -> None:
    assert client().get("/named/a%00b").status_code == 404
    assert client().get("/named/a?q=%00").status_code == 400


def test_head_is_a_get_without_a_body() -> None:
    answer = client().head("/named/anna")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "6")
    assert client().head("/other").status_code == 404


@pytest.mark.parametrize(
    ("text", "rate"), [("50/s", 50), ("600/m", 10), ("36/h", 0.01), ("0", 0), ("2.5 / s", 2.5), ("7", 7)]
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("option", "value"), [("API_RATE", "fast"), ("API_RATE", "-1/s"), ("API_BURST", "0"), ("API_MAX_BODY", "much")]
)
def test_what_cannot_be_used_is_named(option: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    with pytest.raises(SettingsError, match=option.lower()):
        options.load()
