"""Name and password to a token, by the log-in of Airflow's auth manager."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from airflow.api_fastapi.app import get_auth_manager
from fastapi import HTTPException, Request
from starlette.routing import Mount

from airflow_monai.api.common.mounting import SERVER

logger = logging.getLogger(__name__)

_apps: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class TakesNoPasswords(Exception):
    """The auth manager has no log-in by password, or none for this person."""


async def log_in(request: Request, name: str, password: str) -> str | None:
    """A token; None when name or password is wrong.

    :raises TakesNoPasswords: when there is no such log-in.
    :raises HTTPException: 503 when it fails, as when its directory or its own server does not answer.
    """
    app = _login_app(request)
    if app is None:
        raise TakesNoPasswords
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://airflow") as client:
            answer = await client.post("/token", json={"username": name, "password": password})
    except Exception as error:  # noqa: BLE001 - whatever a log-in that is not ours may raise
        if getattr(error, "response_code", None) == 400:  # Keycloak's word for "not by this way"
            raise TakesNoPasswords from None
        raise _fails(type(error).__name__) from None
    if answer.status_code in (404, 405):
        raise TakesNoPasswords
    if answer.status_code >= 500:
        raise _fails(str(answer.status_code))
    try:
        return str(answer.json()["access_token"])
    except (ValueError, KeyError, TypeError):
        return None


def _fails(how: str) -> HTTPException:
    logger.error("the auth manager's log-in failed: %s", how)
    told = "Airflow's auth manager cannot log anybody in now: try again in a moment, or come with a token."
    return HTTPException(503, told, {"Retry-After": "5"})


def _login_app(request: Request) -> Any:
    """The auth manager's own app. The one that Airflow has mounted, since making one is dear, and FAB's comes with a
    Flask application that it takes for the only one; one of our own where ours is mounted in no Airflow."""
    for route in getattr(request.scope.get(SERVER), "routes", ()):
        if isinstance(route, Mount) and route.path == "/auth":
            return route.app
    manager = get_auth_manager()
    if manager not in _apps:
        _apps[manager] = manager.get_fastapi_app()
    return _apps[manager]
