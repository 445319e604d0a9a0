"""Waiting for jobs. The server is a mock: it is away, and slow, as it is told."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest

from airflow_monai.cli.progress import Progress
from airflow_monai.cli.remote.following import follow, told
from airflow_monai.client.server import Login, Server
from airflow_monai.errors import CallerUnknown, ServerUnavailable

QUEUED = {"id": "a", "map": "lung:1", "status": "QUEUED", "queue_position": 3, "reason": "waits for a card"}
RUNNING = {
    **QUEUED,
    "status": "RUNNING",
    "queue_position": None,
    "progress": {"percent": 41.6, "stage": "go\x1b[2J"},
}
DONE = {**RUNNING, "status": "SUCCEEDED"}


class Scene:
    """A server's answers one after the other, and a clock that sleeping moves on."""

    def __init__(self, *answers: Any):
        self.now, self.out = 0.0, io.StringIO()
        self._answers = list(answers)
        self.server = Server("http://a.example", "app-server", Login(token="t"), httpx.MockTransport(self._answer))

    def follow(self, *jobs: dict[str, Any], until: float | None = None) -> list[dict[str, Any]]:
        progress = Progress(self.out, every_without_terminal=0)
        return follow(self.server, jobs, progress, until=until, clock=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _answer(self, request: httpx.Request) -> httpx.Response:
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)


def test_what_goes_on_is_shown_until_the_end() -> None:
    scene = Scene(QUEUED, RUNNING, DONE)
    assert scene.follow(QUEUED) == [DONE]
    assert scene.out.getvalue().splitlines()[:2] == [
        "lung:1 QUEUED, 3 before it, waits for a card",
        "lung:1 RUNNING, 42 %, go?[2J",
    ]
    assert told([DONE, RUNNING]) == "1 of 2 jobs have ended; lung:1 RUNNING, 42 %, go?[2J"


def test_a_server_that_starts_again_is_waited_for_and_one_that_stays_away_is_not() -> None:
    scene = Scene(httpx.ConnectError("no"), httpx.Response(503), RUNNING, DONE)
    assert scene.follow(QUEUED) == [DONE] and "Still waiting" in scene.out.getvalue()
    gone = Scene(httpx.ConnectError("no"))
    with pytest.raises(ServerUnavailable):
        gone.follow(QUEUED)
    assert 300 < gone.now < 310
    stranger = Scene(httpx.Response(401))
    with pytest.raises(CallerUnknown):
        stranger.follow(QUEUED)
    assert stranger.now < 2


def test_the_time_is_over() -> None:
    scene = Scene(RUNNING)
    assert scene.follow(RUNNING, until=60) == [RUNNING] and 60 <= scene.now < 66
