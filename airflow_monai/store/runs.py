"""What a workflow instance leaves in the store: a record for each task, and a fence that tells the newest try.

    payloads/<payload_id>/workflows/<dag_id>/<run_id>/<task>[/<map index>]/task.json     record
                                                                          /task.retired.json   one that no longer counts
                                                                          /fence.json    who may publish
                                                                          /g<N>/...      output of generation N
                                                                          /g<N>.log      the application's whole log
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_monai.errors import Fenced, StoreError
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import run_key
from airflow_monai.types import TaskRecord


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one workflow instance."""

    store: Store
    payload_id: str
    dag_id: str
    run_id: str

    def task_key(self, task_id: str, map_index: int = -1) -> str:
        key = f"{run_key(self.payload_id, self.dag_id, self.run_id)}/{safe_name(task_id)}"
        return key if map_index < 0 else f"{key}/{map_index}"

    def output_key(self, task_id: str, map_index: int, generation: int) -> str:
        """Folder that generation ``generation`` of the task writes its output to."""
        return f"{self.task_key(task_id, map_index)}/g{generation}"

    def log_key(self, task_id: str, map_index: int, generation: int) -> str:
        return f"{self.output_key(task_id, map_index, generation)}.log"

    def record(self, task_id: str, map_index: int = -1) -> TaskRecord | None:
        """The task's latest record, None when it has not run."""
        key = f"{self.task_key(task_id, map_index)}/task.json"
        if not self.store.exists(key):
            return None
        try:
            return TaskRecord.from_dict(self.store.read_json(key))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The task record {key} is damaged: {error}.") from error

    def write_record(self, record: TaskRecord) -> None:
        self.store.write_json(f"{self.task_key(record.task_id, record.map_index)}/task.json", record.to_dict())

    def retire(self, task_ids: Iterable[str], map_index: int = -1) -> None:
        """Take the records of tasks out of use: they are from before a way to them was given up."""
        for task_id in task_ids:
            key = f"{self.task_key(task_id, map_index)}/task.json"
            if self.store.exists(key):
                record = self.store.read(key)
                self.store.delete(key)
                # last, since it is the writing that makes the folder, and so the removal, survive a power cut
                self.store.write(key.replace("task.json", "task.retired.json"), record)


@dataclass(frozen=True, slots=True)
class Fence:
    """Tells the newest try of a task from an older one whose process outlived its worker.

    Try numbers only grow, also when a person clears the task, so the highest one that claimed is the one that counts.
    """

    folder: RunFolder
    task_id: str
    map_index: int
    try_number: int

    @property
    def _key(self) -> str:
        return f"{self.folder.task_key(self.task_id, self.map_index)}/fence.json"

    def claim(self) -> None:
        """Take over the task from all older tries; :class:`Fenced` when a newer one has it."""
        self.check()
        self.folder.store.write_json(self._key, {"try_number": self.try_number})

    def check(self) -> None:
        """Raise :class:`Fenced` when a newer try has claimed the task."""
        store = self.folder.store
        newest = store.read_json(self._key)["try_number"] if store.exists(self._key) else 0
        if newest > self.try_number:
            raise Fenced(
                f"Try {newest} of task {self.task_id} has taken over from try {self.try_number}; this process stops "
                "without touching the container or the results."
            )
