"""The API by which tasks talk to Airflow, for a process that talks only to itself.

Airflow's own makes the routes of nine versions of that API, for workers older than the server. Here both are one
process, so the newest version is all that is asked for, and the others would take longer than all else of a start.
"""

from __future__ import annotations

from typing import Any


def use_newest_version_only() -> None:
    """Let Airflow's in-process API be made by :func:`make_app`; to be called before it is first asked for."""
    from airflow.api_fastapi.execution_api import app

    app.create_task_execution_api_app = make_app  # type: ignore[assignment]


def make_app(lifespan: Any) -> Any:
    """The routes of the newest version; apart from that, what ``create_task_execution_api_app`` makes."""
    from airflow.api_fastapi.common.exceptions import init_error_handlers
    from airflow.api_fastapi.execution_api.routes import execution_api_router
    from fastapi import FastAPI

    app = FastAPI(title="Airflow Task Execution API", lifespan=lifespan, openapi_url=None)
    app.include_router(execution_api_router)
    init_error_handlers(app)
    return app
