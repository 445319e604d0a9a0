"""The client of the HTTP APIs where a server is asked too often. The server is a mock, which no real one can be made to
be in time."""

from __future__ import annotations

import httpx
import pytest

from airflow_monai.client.server import Login, Server, place
from airflow_monai.errors import CallerUnknown, ServerRefused, SettingsError


def server(answers: list[httpx.Response], slept: list[float], asked: list[httpx.Request]) -> Server:
    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        asked.append(request)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    transport = httpx.MockTransport(answer)
    return Server("http://a.example", "app-server", Login(token="t"), transport, slept.append)


def too_often(seconds: str) -> httpx.Response:
    return httpx.Response(429, headers={"Retry-After": seconds}, json={"detail": "too often"})


def test_who_asks_too_often_waits_as_the_server_says() -> None:
    slept: list[float] = []
    asked: list[httpx.Request] = []
    there = server([too_often("7"), too_often("soon"), httpx.Response(200, json={"n": 1})], slept, asked)
    assert there.call("POST", "/jobs", body={"dataset": "d"}, key="k", left_out=None) == {"n": 1}
    assert slept == [7, 1]
    assert [(one.content, one.headers["Idempotency-Key"]) for one in asked] == [(b'{"dataset": "d"}', "k")] * 3
    assert not asked[0].url.query
    slept.clear()
    fetched = server([too_often("3"), httpx.Response(200, content=b"file")], slept, asked)
    assert (b"".join(fetched.stream("/x")), slept) == (b"file", [3])


def test_its_patience_ends() -> None:
    slept: list[float] = []
    for seconds, times in (("200", 1), ("1000", 0)):
        with pytest.raises(ServerRefused, match="too often"):
            server([too_often(seconds)], slept, []).call("GET", "/jobs")
        assert len(slept) == times
        slept.clear()
    with pytest.raises(ServerRefused, match="too often"):  # what was sent of it is gone
        server([too_often("1")], slept, []).call("POST", "/datasets", content=iter([b"a"]))
    assert not slept
    with pytest.raises(CallerUnknown):
        server([httpx.Response(401)], slept, []).call("GET", "/jobs")


def test_what_somebody_writes_is_one_part_of_a_path() -> None:
    assert place("jobs", "a/b?c", "cancel") == "/jobs/a%2Fb%3Fc/cancel"
    for part in ("", " ", ".."):
        with pytest.raises(SettingsError, match="names nothing"):
            place("jobs", part)
