"""From rows, notes and records to what the API says of a job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy.orm import Session

from airflow_monai.api.app_server.job_models import (
    Job,
    JobSummary,
    Outputs,
    Progress,
    Requested,
    Resources,
    Used,
)
from airflow_monai.api.app_server.map_names import MapNames
from airflow_monai.api.common.wording import without_places
from airflow_monai.api.instances.jobs import JobRow, progress_of, queue_position
from airflow_monai.errors import MonaiError, PayloadNotFound
from airflow_monai.jobs.clearing import Clearing, ClearingKind, Clearings, newest_generation
from airflow_monai.jobs.requests import Priority, Request, Unstarted, WantedJob
from airflow_monai.jobs.status import JobStatus
from airflow_monai.maps.registry import MapRegistry, RegisteredMap, split_label
from airflow_monai.maps.workflows import EXPORT_TASK, TASK
from airflow_monai.store.base import Store
from airflow_monai.store.payloads import payload_key
from airflow_monai.store.runs import MAP_NOTE, RunFolder
from airflow_monai.types import TaskRecord, TaskStatus

_JOB_RUN = re.compile(r"__j(?P<priority>[urb])[0-9a-f]+\Z")
_PRIORITIES = {priority.value[0]: priority for priority in Priority}
_NO_RUN_YET = "Its DAG run is not there yet: Airflow may just be reading the MAP's workflow. It is tried again."
names = MapNames()


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job wherever it is known from.

    :param row: of Airflow's tables; None while it has no run.
    :param wanted: what is noted of a job without one.
    :param unstarted: why it never gets one.
    :param request: in which it waits for one.
    """

    row: JobRow | None
    wanted: WantedJob | None = None
    unstarted: Unstarted | None = None
    request: Request | None = None

    @property
    def dag_id(self) -> str:
        return self.row.run.dag_id if self.row else self._wanted.dag_id

    @property
    def run_id(self) -> str:
        return self.row.run.run_id if self.row else self._wanted.run_id

    @property
    def job_id(self) -> str:
        return self.row.run.instance_id if self.row else self._wanted.job_id

    @property
    def status(self) -> JobStatus:
        if self.row is not None:
            return self.row.status
        if self.unstarted is None:
            return JobStatus.QUEUED
        return JobStatus.CANCELLED if self.unstarted.cancelled else JobStatus.FAILED

    @property
    def _wanted(self) -> WantedJob:
        assert self.wanted is not None
        return self.wanted

    def folder(self, store: Store) -> RunFolder | None:
        """Where its outputs lie; None where its run names no payload."""
        payload_id = self.row.run.payload_id if self.row else self._wanted.payload_id
        try:
            payload_key(payload_id)
        except PayloadNotFound:
            return None
        return RunFolder(store, payload_id, self.dag_id, self.run_id)


def summary(store: Store, job: FoundJob) -> JobSummary:
    """A job in one line; reads nothing for one that has a run."""
    if job.row is None:
        wanted, ended = job._wanted, job.unstarted.at if job.unstarted else None
        return JobSummary(
            id=wanted.job_id,
            map=wanted.label,
            dataset=wanted.payload_id,
            status=job.status,
            priority=Priority(wanted.priority),
            created_at=datetime.fromisoformat(wanted.created),
            ended_at=datetime.fromisoformat(ended) if ended else None,
            created_by=wanted.by,
        )
    run, task = job.row.run, job.row.task
    begun = job.status is not JobStatus.QUEUED
    return JobSummary(
        id=run.instance_id,
        map=names.label(store, run.dag_id),
        dataset=run.payload_id,
        status=job.status,
        priority=_priority(run.run_id),
        created_at=run.created or datetime.fromtimestamp(0, timezone.utc),
        started_at=task.started if task and begun else None,
        ended_at=run.ended if run.has_ended else None,
        created_by=run.user,
    )


def whole(store: Store, session: Session, job: FoundJob) -> Job:
    """Everything that is known of a job."""
    folder = job.folder(store)
    record = folder.record(TASK) if folder else None
    registered = _registered(store, folder, record, names.label(store, job.dag_id))
    more: dict[str, Any] = {
        "workflow": job.dag_id,
        "run": job.run_id,
        "reason": _reason(job, folder, record),
        "map_digest": _digest(job, record, registered),
        "resources": Resources(requested=_requested(registered, job.row), used=_used(record)),
        "outputs": outputs(store, job, folder, record),
    }
    if job.row is not None:
        more["queue_position"] = queue_position(session, job.row)
        if job.status is JobStatus.RUNNING:
            told = progress_of(session, job.row)
            more["progress"] = Progress(**{name: told.get(name) for name in Progress.model_fields}) if told else None
    return Job(**summary(store, job).model_dump(), **more)


def outputs(store: Store, job: FoundJob, folder: RunFolder | None, record: TaskRecord | None) -> Outputs:
    """What can be fetched."""
    if folder is None:
        return Outputs()
    cleared = cleared_of(store, job, folder)
    finalized = next((item for item in cleared if item.kind is ClearingKind.FINALIZED), None)
    gone = any(item.is_due(datetime.now(timezone.utc)) for item in cleared)
    files = 0 if gone or record is None else sum(map(len, record.artifacts.values()))
    return Outputs(
        files=files,
        available=files > 0,
        finalized_at=datetime.fromisoformat(finalized.at) if finalized else None,
        until=datetime.fromisoformat(finalized.due) if finalized else None,
    )


def cleared_of(store: Store, job: FoundJob, folder: RunFolder) -> list[Clearing]:
    """What was said about the newest outputs of a job going."""
    if not job.status.has_ended:
        return []
    clearings, generation = Clearings(store), newest_generation(folder)
    found = (clearings.find(job.job_id, generation, kind) for kind in ClearingKind)
    return [item for item in found if item is not None]


def _priority(run_id: str) -> Priority:
    found = _JOB_RUN.search(run_id)
    return _PRIORITIES[found["priority"]] if found else Priority.ROUTINE


def _reason(job: FoundJob, folder: RunFolder | None, record: TaskRecord | None) -> str | None:
    if job.row is None:
        if job.unstarted is None:
            return _NO_RUN_YET
        return job.unstarted.reason
    run, task = job.row.run, job.row.task
    if job.status is JobStatus.CANCELLED and run.cancelled:
        return f"Cancelled by {run.cancelled.get('by') or 'somebody'}."
    if job.status is JobStatus.QUEUED and task is not None and task.state == "up_for_reschedule":
        return "It waits for a card."
    if task is not None and task.state == "up_for_retry":
        return "It failed, and is going to be tried again."
    if job.status is not JobStatus.FAILED:
        return None
    return _error(folder, record) or "It was ended before its application said anything."


def _error(folder: RunFolder | None, record: TaskRecord | None) -> str | None:
    """What the records of its tasks say, which is free of patient data."""
    if record is not None and record.status is not TaskStatus.SUCCEEDED:
        return without_places(record.error_msg) if record.error_msg else None
    exported = folder.record(EXPORT_TASK) if folder else None
    if exported is not None and exported.error_msg:
        return without_places(f"Its results could not be delivered: {exported.error_msg}")
    return None


def _registered(store: Store, folder: RunFolder | None, record: TaskRecord | None, label: str) -> RegisteredMap | None:
    """The revision that the job ran, or else the newest."""
    parts = split_label(label)
    if parts is None:
        return None
    registry = MapRegistry(store)
    try:
        key = folder.note_key(TASK, -1, record.generation if record else 1, MAP_NOTE) if folder else ""
        if key and store.exists(key):
            return registry.revision(*parts, int(store.read_json(key)["revision"]))
        return registry.newest(*parts)
    except (MonaiError, ValueError, KeyError, TypeError):
        return None


def _digest(job: FoundJob, record: TaskRecord | None, registered: RegisteredMap | None) -> str | None:
    ran = record.stats.get("digest") if record else None
    if ran:
        return str(ran)
    if registered is not None:
        return registered.digest
    return job.wanted.digest if job.wanted else None


def _requested(registered: RegisteredMap | None, row: JobRow | None) -> Requested | None:
    if registered is None:
        return None
    try:
        resources = registered.manifest().resources
    except MonaiError:
        return None
    task = row.task if row else None
    return Requested(
        cpu=resources.cpu,
        memory_bytes=resources.memory_bytes,
        shared_memory_bytes=resources.shared_memory_bytes,
        gpu=resources.gpu if registered.use_gpu else 0,
        gpu_memory_bytes=resources.gpu_memory_bytes if registered.use_gpu else 0,
        pool=task.pool if task else None,
        pool_slots=task.pool_slots if task else None,
    )


def _used(record: TaskRecord | None) -> Used | None:
    if record is None:
        return None
    return Used(**{name: record.stats.get(name) for name in Used.model_fields})
