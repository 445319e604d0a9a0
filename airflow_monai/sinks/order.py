"""Who exports: what sinks need to know whose deliveries are answered later, by message."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_monai.store.base import Store
from airflow_monai.store.giving import Waiting
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.store.requests import correlation_of, run_guid
from airflow_monai.store.runs import RunFolder


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """A generation of an export task.

    :param run_started: UTC time at which the run began, which tells it from an earlier run of the same id.
    """

    folder: RunFolder
    task_id: str
    map_index: int
    generation: int
    run_started: str = ""

    @property
    def store(self) -> Store:
        return self.folder.store

    @property
    def workflow_instance_id(self) -> str:
        """A GUID that stands for the DAG run."""
        return instance_id_of(self.folder.dag_id, self.folder.run_id)

    @property
    def correlation_id(self) -> str:
        """That of the message by which the payload came, else one of the run."""
        folder = self.folder
        return correlation_of(self.store, folder.payload_id, folder.dag_id, folder.run_id, self.run_started)

    def task_guid(self, *more: str) -> str:
        """A GUID that is the same for every try of this generation."""
        return self._guid(self.task_id, str(self.map_index), str(self.generation), *more)

    def waiting(self, note: str) -> Waiting:
        """Where an answer goes that becomes a note of the task."""
        folder = self.folder
        return Waiting(
            folder.payload_id, folder.dag_id, folder.run_id, self.task_id, self.map_index, self.generation, note
        )

    def note_key(self, note: str) -> str:
        return self.folder.note_key(self.task_id, self.map_index, self.generation, note)

    def _guid(self, *parts: str) -> str:
        folder = self.folder
        return run_guid(folder.payload_id, folder.dag_id, folder.run_id, self.run_started, *parts)
