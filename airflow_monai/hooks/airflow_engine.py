"""Airflow as an engine: a workflow is a DAG, a job a run of it."""

from __future__ import annotations

from airflow_monai.engine import Engine, Job, JobState, JobStatus
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

    def validate(self, workflow: str) -> tuple[str, ...]:
        dag = self._api.dag(workflow)
        if dag is None:
            return (f"Airflow has no DAG {workflow!r}, or has not parsed it yet",)
        if dag.get("has_import_errors"):
            return (f"the file of the DAG {workflow!r} has import errors",)
        return (f"the DAG {workflow!r} is paused: its runs wait",) if dag.get("is_paused") else ()

    def launch(self, job: Job) -> bool:
        return self._api.create_run(job.workflow, job.name, job.payload_id, job.note)

    def status(self, job: Job) -> JobStatus | None:
        state = self._api.run_state(job.workflow, job.name)
        return None if state is None else JobStatus(_STATES.get(state, JobState.RUNNING))

    def cancel(self, job: Job) -> bool:
        return self._api.end_run(job.workflow, job.name)
