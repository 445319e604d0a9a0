"""What is below ``/monai`` of Airflow's API server: pages of ours, and the published APIs, each under a prefix of its
own, since their paths collide.

All live in the process that tasks talk to, so a request does a few bounded reads and no more, and what takes long is
streamed or left to others.
"""

from __future__ import annotations

from fastapi import FastAPI

from airflow_monai import __version__
from airflow_monai.api import maps, tasks
from airflow_monai.api.common import options
from airflow_monai.api.common.document import DESCRIPTION, operation_id, publish
from airflow_monai.api.common.limits import Limits
from airflow_monai.api.common.problems import handle_errors


def create_app() -> FastAPI:
    """Every route of it asks Airflow's auth manager."""
    app = FastAPI(
        title="airflow_monai",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # publish() serves it
        description=DESCRIPTION,
        generate_unique_id_function=operation_id,
    )
    handle_errors(app)
    app.add_middleware(Limits, options=options.load())
    for router in (tasks.router, maps.router):  # pages
        app.include_router(router, include_in_schema=False)
    for router in _apis():
        app.include_router(router)
    publish(app)
    return app


def _apis() -> list:
    """The routers of the APIs; a new one is a line here."""
    from airflow_monai.api import callbacks
    from airflow_monai.api.app_server import associations, datasets, handlers, jobs, results, studies
    from airflow_monai.api.app_server import maps as app_maps
    from airflow_monai.api.mip import router as mip
    from airflow_monai.api.workflow_manager import (
        artifacts,
        credentials,
        health,
        instances,
        payloads,
        statistics,
        tasks,
        workflows,
    )
    from airflow_monai.api.workload_manager import payloads as uploaded_payloads
    from airflow_monai.api.workload_manager import resending
    from airflow_monai.api.workload_manager import sinks as export_sinks
    from airflow_monai.api.workload_manager import tasks as export_tasks

    return [
        credentials.router,
        mip.router,
        callbacks.router,
        datasets.router,
        studies.router,
        associations.router,
        app_maps.router,
        jobs.router,
        results.router,
        handlers.router,
        workflows.router,
        instances.router,
        statistics.router,  # before the tasks, one of which would be called so
        tasks.router,
        payloads.router,
        artifacts.router,
        health.router,
        export_sinks.router,
        export_tasks.router,
        uploaded_payloads.router,
        resending.router,
    ]
