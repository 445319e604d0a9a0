"""One try of a task, what it gives, and the record of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import InvalidArgument, MonaiError
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.types import Payload, PayloadFile, SeriesTags, TaskRecord, TaskStatus

if TYPE_CHECKING:
    from airflow_monai.specs.context import ExecutionContext
    from airflow_monai.store.base import Store


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task gave.

    :param result: values that conditions may read (``context.executions.<task>.result.<key>``).
    :param artifacts: artifact name -> store keys of its files.
    :param xcom: more for the task's return value; must be free of patient data.
    :param status: Succeeded, or PartialFail for a task that ended well and says no.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)
    output_dir: str | None = None
    xcom: Mapping[str, Any] = field(default_factory=dict)
    status: TaskStatus = TaskStatus.SUCCEEDED


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One try of one task of one workflow instance, in terms of the store.

    :param generation: number of the try that began this generation: a retry keeps it, clearing the task begins a new,
        and so does a run that was deleted and made again under the same id.
    :param run_started: UTC time at which the run began, as text that sorts by time.
    :param clears: how often somebody has cleared anything of the run; None where nobody tells, or it is no matter: see
        :meth:`airflow_monai.store.runs.Fence.claim`.
    :param params: what ``context.params`` means.
    :param for_each_series: the map index counts the series of the payload, and only that one is seen.
    """

    store: Store
    payload: Payload
    folder: RunFolder
    task_id: str
    map_index: int
    generation: int
    try_number: int
    workflow_name: str
    workflow_description: str
    run_started: str = ""
    clears: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    for_each_series: bool = False

    def with_generation(self, generation: int) -> TaskRun:
        return replace(self, generation=generation)

    @property
    def fence(self) -> Fence:
        return Fence(self.folder, self.task_id, self.map_index, self.try_number, self.run_started, self.clears)

    def claimed(self) -> TaskRun:
        """This run after it has taken over the task from all older tries; :class:`Fenced` when a newer one has it."""
        return self.with_generation(self.fence.claim(self.generation))

    @property
    def series_uid(self) -> str | None:
        """The series that the task runs for, None when it runs for the whole payload.

        :raises InvalidArgument: when the payload has no such series.
        """
        if not self.for_each_series or self.map_index < 0:
            return None
        from airflow_monai.store.payloads import series_of

        series = series_of(self.payload)
        if self.map_index >= len(series):
            raise InvalidArgument(
                f"Task {self.task_id} is to run for series {self.map_index + 1} of payload {self.payload.payload_id}, "
                f"which has {len(series)}: clear the task that lists them, which begins the tasks for each series anew."
            )
        return series[self.map_index]

    @property
    def input_key(self) -> str:
        """Store key of the folder of the received files: of the series, or of the payload."""
        from airflow_monai.store.payloads import dicom_key, payload_key

        folders = {file.path.rpartition("/")[0] for file in self.input_files} if self.series_uid else set()
        payload_id = self.payload.payload_id
        return payload_key(payload_id, folders.pop()) if len(folders) == 1 else dicom_key(payload_id)

    @property
    def input_files(self) -> tuple[PayloadFile, ...]:
        """The received files: of the series, or of the payload."""
        series = self.series_uid
        files = self.payload.files
        return files if series is None else tuple(file for file in files if file.series_instance_uid == series)

    def record(self, task_id: str) -> TaskRecord | None:
        """What an earlier task did: for this series, where it runs for each, else for all."""
        found = self.folder.record(task_id, self.map_index)
        return self.folder.record(task_id) if found is None and self.map_index >= 0 else found

    def note(self, name: str) -> Any:
        """What a try of this generation noted under a name, None when nothing was."""
        key = self.folder.note_key(self.task_id, self.map_index, self.generation, name)
        return self.store.read_json(key) if self.store.exists(key) else None

    def write_note(self, name: str, facts: Mapping[str, Any]) -> None:
        """Note something for later tries of this generation."""
        key = self.folder.note_key(self.task_id, self.map_index, self.generation, name)
        self.store.write_json(key, dict(facts))

    @property
    def output_key(self) -> str:
        return self.folder.output_key(self.task_id, self.map_index, self.generation)

    @property
    def execution_id(self) -> str:
        """A UUID that is the same for every try of a generation."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.output_key))


def note_run(run: TaskRun) -> None:
    """Have the payload's history know a run that Airflow, or a person there, has created."""
    from airflow_monai.store.arrival import note_foreign_run

    note_foreign_run(run.store, run.payload.payload_id, run.folder.dag_id, run.folder.run_id, run.run_started)


def condition_context(run: TaskRun, tags: Callable[[], SeriesTags] | None = None) -> ExecutionContext:
    """Resolver of condition paths over the run's payload and the tasks of its workflow instance, from the store.

    :param tags: gives the payload's attributes where they are at hand.
    """
    from airflow_monai.specs.context import ExecutionContext
    from airflow_monai.store.payloads import load_series_tags

    series = run.series_uid

    def series_tags() -> SeriesTags:
        found = tags() if tags else load_series_tags(run.store, run.payload.payload_id)
        return found if series is None else {uid: known for uid, known in found.items() if uid == series}

    return ExecutionContext(
        payload=run.payload,
        series_tags=cache(series_tags),
        task_record=run.record,
        task_records=run.folder.records,
        input_folder=run.input_key,
        workflow_name=run.workflow_name,
        workflow_description=run.workflow_description,
        params=run.params,
    )


def task_record(
    run: TaskRun,
    task_type: str,
    status: TaskStatus,
    outcome: Outcome,
    *,
    error: str | None,
    started: str,
    previous_task_id: str | None,
) -> TaskRecord:
    """The record of a task that has just ended."""
    return TaskRecord(
        task_id=run.task_id,
        task_type=task_type,
        status=status,
        execution_id=run.execution_id,
        generation=run.generation,
        try_number=run.try_number,
        map_index=run.map_index,
        previous_task_id=previous_task_id,
        start_time=started,
        end_time=utc_now(),
        output_dir=outcome.output_dir,
        error_msg=error,
        result=outcome.result,
        stats=outcome.stats,
        artifacts=outcome.artifacts,
    )


def return_value(outcome: Outcome, result_keys: Iterable[str]) -> dict[str, Any]:
    """What a task returns to Airflow: counts and declared keys, nothing else of the result."""
    declared = {key: outcome.result[key] for key in result_keys if key in outcome.result}
    counts = {name: len(keys) for name, keys in outcome.artifacts.items()}
    return {"status": outcome.status.value, "result": declared, "artifacts": counts, **outcome.xcom}


def one_line(error: BaseException) -> str:
    """A failure's reason for the record: our own messages, of others the class only (they may quote data)."""
    text = str(error) if isinstance(error, MonaiError) else type(error).__name__
    return " ".join(text.split())[:500]


def sortable_time(moment: datetime | str | None) -> str:
    """A moment, or its text in ISO 8601, as text that sorts by time; empty for none."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.strip()) if moment.strip() else None
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds") if moment else ""


def utc_now() -> str:
    """As records have it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
