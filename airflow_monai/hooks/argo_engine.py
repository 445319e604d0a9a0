"""Argo Workflows as an engine: a workflow is a WorkflowTemplate of the cluster, a job a Workflow made of it."""

from __future__ import annotations

import asyncio

from airflow_monai.argo.status import WorkflowStatus
from airflow_monai.argo.submission import LABEL, Submission, label_value
from airflow_monai.engine import Engine, Job, JobState, JobStatus
from airflow_monai.hooks.argo_server import ArgoServer

_STATES = {
    "": JobState.QUEUED,
    "Pending": JobState.QUEUED,
    "Running": JobState.RUNNING,
    "Succeeded": JobState.SUCCEEDED,
    "Failed": JobState.FAILED,
    "Error": JobState.FAILED,
}


class ArgoEngine(Engine):
    """
    :param server: one namespace of an Argo Server.
    """

    def __init__(self, server: ArgoServer):
        self._server = server

    def validate(self, workflow: str) -> tuple[str, ...]:
        if asyncio.run(self._server.template(workflow)) is None:
            return (f"there is no WorkflowTemplate {workflow!r} in namespace {self._server.namespace!r}",)
        return ()

    def launch(self, job: Job) -> bool:
        labels = {f"{LABEL}.payload": label_value(job.payload_id)} if job.payload_id else {}
        submission = Submission(
            job.name, self._server.namespace, job.workflow, parameters=dict(job.parameters), labels=labels
        )
        return asyncio.run(self._server.submit(submission))

    def status(self, job: Job) -> JobStatus | None:
        return asyncio.run(self._status(job))

    async def _status(self, job: Job) -> JobStatus | None:
        found = await self._server.status(job.name)
        if found is not None and found.phase in ("Failed", "Error"):
            found = await self._server.status(job.name, with_nodes=True) or found
        return None if found is None else status_of(found, self._server)

    def cancel(self, job: Job) -> bool:
        return asyncio.run(self._cancel(job))

    async def _cancel(self, job: Job) -> bool:
        found = await self._server.status(job.name)
        return found is not None and not found.has_ended and await self._server.terminate(job.name)


def status_of(found: WorkflowStatus, server: ArgoServer) -> JobStatus:
    state = _STATES.get(found.phase, JobState.RUNNING)
    return JobStatus(state, found.reason(server.cleaned) if state is JobState.FAILED else "")
