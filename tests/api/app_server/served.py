"""Our APIs as a server of their own, for tests that kill it: ``uvicorn --factory tests.api.app_server.served:app``."""

from __future__ import annotations

from fastapi import FastAPI


def app() -> FastAPI:
    from airflow import settings
    from airflow.api_fastapi.app import init_auth_manager

    settings.initialize()
    init_auth_manager()
    from airflow_monai.api.app import create_app

    return create_app()
