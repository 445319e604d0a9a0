"""The app as the plugin names it: made at its first request, since every Airflow process imports the plugin."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow_monai.api.common.mounting import SERVER

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LazyApp:
    """An ASGI application that costs nothing until somebody asks it something."""

    def __init__(self, make: Callable[[], Any]):
        self._make = make
        self._app: Any = None
        self._lock = threading.Lock()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        scope[SERVER] = scope.get("app")
        await self._made()(scope, receive, send)

    def _made(self) -> Any:
        if self._app is None:
            with self._lock:
                self._app = self._app or self._make()
        return self._app


def monai_app() -> Any:
    """The app below ``/monai``."""
    from airflow_monai.api.app import create_app

    return create_app()
