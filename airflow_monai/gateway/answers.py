"""Gives answers that come by message to the tasks that wait for them, each once."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import (
    ArtifactsReceivedEvent,
    Event,
    ExportCompleteEvent,
    TaskCallbackEvent,
)
from airflow_monai.errors import InvalidEvent, StoreError
from airflow_monai.store.answers import AnswerKind, Awaited, awaited_answer, give_answer
from airflow_monai.store.base import check_key, safe_name
from airflow_monai.store.callbacks import Reception, resolve_callback

if TYPE_CHECKING:
    from airflow_monai.store.base import Store


class AnswerTaker:
    """Takes answers. A second answer changes nothing and does no harm.

    :raises InvalidEvent: by its methods, when nobody waits, or ever waited, for the answer.
    """

    def __init__(self, store: Store, buckets: Buckets):
        self._store = store
        self._buckets = buckets

    def take(self, event: Event) -> None:
        """Give an answer to its task, durable when this returns."""
        if isinstance(event, TaskCallbackEvent):
            self._callback(event)
        elif isinstance(event, ExportCompleteEvent):
            self._export(event)
        elif isinstance(event, ArtifactsReceivedEvent):
            self._artifacts(event)
        else:
            raise InvalidEvent(f"Nothing here takes a {type(event).__name__}.")

    def _callback(self, event: TaskCallbackEvent) -> None:
        """By the token that the task gave away, in ``identity``, else by the id of the execution."""
        if resolve_callback(self._store, event.identity, event.metadata) is not Reception.UNKNOWN:
            return
        awaited = awaited_answer(self._store, AnswerKind.CALLBACK, (event.execution_id,))
        if awaited is None:
            raise InvalidEvent(
                "No task waits for this callback: neither its identity nor its execution_id is one that a task has "
                "given away."
            )
        give_answer(self._store, awaited, event.metadata)

    def _export(self, event: ExportCompleteEvent) -> None:
        awaited = awaited_answer(self._store, AnswerKind.EXPORT, (event.workflow_instance_id, event.export_task_id))
        if awaited is None:
            raise InvalidEvent("No export was asked for with this workflow_instance_id and export_task_id.")
        body = {
            "status": event.status.value,
            "message": event.message,
            "files": {path: status.value for path, status in event.file_statuses.items()},
        }
        give_answer(self._store, awaited, body)

    def _artifacts(self, event: ArtifactsReceivedEvent) -> None:
        """Bring the files of an application elsewhere to its task."""
        awaited = awaited_answer(self._store, AnswerKind.ARTIFACTS, (event.workflow_instance_id, event.task_id))
        if awaited is None:
            raise InvalidEvent("No task waits for artifacts with this workflow_instance_id and task_id.")
        bucket = self._buckets.open(event.bucket)
        brought: dict[str, list[str]] = {}
        for artifact in event.artifacts:
            name = _output_of(str(artifact.type), awaited)
            try:
                source = check_key(artifact.path.strip("/"))
            except StoreError:
                raise InvalidEvent("A path among its artifacts is no path in a bucket.") from None
            keys = list(bucket.list(source)) or [source]
            for key in keys:
                target = f"{awaited.output_key}/{safe_name(name)}/{PurePosixPath(key).name}"
                self._bring(bucket, key, target)
                brought.setdefault(name, []).append(target)
        give_answer(self._store, awaited, {"artifacts": brought})

    def _bring(self, bucket: Store, key: str, target: str) -> None:
        path = bucket.local_path(key)
        if path is not None and not path.is_file():
            raise InvalidEvent("A file among its artifacts is not in the bucket.")
        self._store.create(target, bucket.read(key))


def _output_of(kind: str, awaited: Awaited) -> str:
    """Name of the output of a task that files of a type belong to."""
    for name, type_ in awaited.outputs:
        if kind.lower() in (type_.lower(), name.lower()):
            return name
    if len(awaited.outputs) == 1:
        return awaited.outputs[0][0]
    known = ", ".join(type_ for _, type_ in awaited.outputs)
    raise InvalidEvent(f"Its artifacts are of a type that the task does not wait for; it waits for {known}.")
