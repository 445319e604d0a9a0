"""Airflow as an engine: a workflow is a DAG, a job a run of it."""

from __future__ import annotations

import asyncio

from airflow_monai.engines.base import Engine, Job, JobState, JobStatus
from airflow_monai.hooks.airflow_api import AirflowApi

_STATES = {
    "queued": JobState.QUEUED,
    "running": JobState.RUNNING,
    "success": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
}


class AirflowEngine(Engine):
    """
    :param api: Airflow's REST API.
    """

    def __init__(self, api: AirflowApi):
        self._api = api

    async def validate(self, workflow: str) -> tuple[str, ...]:
        dag = await asyncio.to_thread(self._api.dag, workflow)
        if dag is None:
            return (f"Airflow has no DAG {workflow!r}, or has not parsed it yet",)
        if dag.get("has_import_errors"):
            return (f"the file of the DAG {workflow!r} has import errors",)
        return (f"the DAG {workflow!r} is paused: its runs wait",) if dag.get("is_paused") else ()

    async def launch(self, job: Job) -> bool:
        return await asyncio.to_thread(self._api.create_run, job.workflow, job.name, job.payload_id)

    async def status(self, job: Job) -> JobStatus | None:
        state = await asyncio.to_thread(self._api.run_state, job.workflow, job.name)
        return None if state is None else JobStatus(_STATES.get(state, JobState.RUNNING))

    async def cancel(self, job: Job) -> bool:
        return await asyncio.to_thread(self._api.end_run, job.workflow, job.name)
