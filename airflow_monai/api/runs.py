"""From the ids in an address to what the store holds of that task. Nothing in an address becomes a path unchecked."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import HTTPException

from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.base import Store
from airflow_monai.store.payloads import payload_id_in, payload_key
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """A task of a run.

    :param map_index: -1 for a task that does not run for each series.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True, slots=True)
class FoundTask:
    """What the store holds of it.

    :param record: None while it has not ended.
    """

    place: TaskPlace
    folder: RunFolder
    record: TaskRecord | None

    def log_key(self) -> str | None:
        """The application's whole log, where there is one."""
        if self.record is None:
            return None
        key = self.folder.log_key(self.place.task_id, self.place.map_index, self.record.generation)
        return key if self.folder.store.exists(key) else None

    def is_ours(self, key: str) -> bool:
        """Whether a key of the record is one of its payload's."""
        return key.startswith(f"{payload_key(self.folder.payload_id)}/")


def site_store() -> Store:
    from airflow_monai import settings
    from airflow_monai.store import open_store

    return open_store(settings.load().store)


def find_task(place: TaskPlace) -> FoundTask:
    """The task's folder and record; HTTP 404 where the run is none of ours."""
    payload_id = payload_of(place.dag_id, place.run_id)
    try:
        payload_key(payload_id or "")
    except PayloadNotFound:
        raise HTTPException(404, f"The run {place.run_id!r} of {place.dag_id!r} works on no payload.") from None
    folder = RunFolder(site_store(), payload_id, place.dag_id, place.run_id)
    return FoundTask(place, folder, folder.record(place.task_id, place.map_index))


def payload_of(dag_id: str, run_id: str) -> str:
    """The payload that a run works on, as its tasks find it; empty where it names none.

    HTTP 404 where there is no such run.
    """
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = select(DagRun.partition_key, DagRun.conf).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        found = session.execute(wanted).first()
    if found is None:
        raise HTTPException(404, f"There is no run {run_id!r} of {dag_id!r}.")
    key, conf = found
    named = key or (conf.get("payload_id") if isinstance(conf, dict) else None)
    return str(named or payload_id_in(run_id))
