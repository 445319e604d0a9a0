"""What an auth manager's log-in answers. It is a stand-in here; real ones are in ``tests/api/auth_managers``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import HTTPException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from airflow_monai.api.common import logging_in


def log_in(monkeypatch: pytest.MonkeyPatch, status: int, body: Any) -> str | None:
    app = Starlette(routes=[Route("/token", lambda request: JSONResponse(body, status), methods=["POST"])])
    monkeypatch.setattr(logging_in, "_login_app", lambda request: app)
    return asyncio.run(logging_in.log_in(Request({"type": "http"}), "ada", "secret"))


@pytest.mark.parametrize(("status", "body"), [(401, {"detail": "no"}), (400, {}), (201, ["odd"])])
def test_no_token_is_a_wrong_password(monkeypatch: pytest.MonkeyPatch, status: int, body: Any) -> None:
    assert log_in(monkeypatch, status, body) is None
    assert log_in(monkeypatch, 201, {"access_token": "t"}) == "t"


def test_a_log_in_that_fails_says_nothing_of_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HTTPException) as caught:
        log_in(monkeypatch, 500, {"detail": "the directory is away"})
    assert caught.value.status_code == 503 and "try again" in caught.value.detail
    assert caught.value.headers == {"Retry-After": "5"}


@pytest.mark.parametrize("status", [404, 405])
def test_an_auth_manager_without_passwords(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with pytest.raises(logging_in.TakesNoPasswords):
        log_in(monkeypatch, status, {})
