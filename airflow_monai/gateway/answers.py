"""Gives answers that come by message to the tasks that wait for them, each once."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import (
    ArtifactsReceivedEvent,
    Event,
    ExportCompleteEvent,
    ExportTaskCompleted,
    TaskCallbackEvent,
)
from airflow_monai.errors import InvalidEvent, StoreError
from airflow_monai.gateway.requests import FilesMissing
from airflow_monai.store.answers import AnswerKind, Awaited, awaited_answer
from airflow_monai.store.base import check_key, safe_name
from airflow_monai.store.callbacks import waiting_for
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.giving import Reception, Waiting, give_answer, has_ended, note_key

if TYPE_CHECKING:
    from airflow_monai.store.base import Store


class AnswerTaker:
    """Takes answers. A second answer changes nothing and does no harm.

    :param spool: for unfinished files; of a gateway, so that what it leaves when it is killed is removed.
    :raises InvalidEvent: by its methods, when nobody waits, or ever waited, for the answer.
    """

    def __init__(self, store: Store, buckets: Buckets, spool: Path | None = None):
        self._store = store
        self._buckets = buckets
        self._spool = spool or store.spool()

    def take(self, event: Event) -> None:
        """Give an answer to its task, durable when this returns."""
        if isinstance(event, TaskCallbackEvent):
            self._callback(event)
        elif isinstance(event, ExportCompleteEvent):
            self._export(event)
        elif isinstance(event, ExportTaskCompleted):
            self._export(
                ExportCompleteEvent(
                    workflow_instance_id=event.transaction_id,
                    export_task_id=event.export_task_id,
                    status=event.status,
                    message=event.message,
                )
            )
        elif isinstance(event, ArtifactsReceivedEvent):
            self._artifacts(event)
        else:
            raise InvalidEvent(f"Nothing here takes a {type(event).__name__}.")

    def _callback(self, event: TaskCallbackEvent) -> None:
        """By the token that the task gave away, in ``identity``, else by the id of the execution."""
        waiting = waiting_for(self._store, event.identity)
        if waiting is None:
            awaited = awaited_answer(self._store, AnswerKind.CALLBACK, (event.execution_id,))
            waiting = awaited.waiting if awaited is not None else None
        if waiting is None:
            raise InvalidEvent(
                "No task waits for this callback: neither its identity nor its execution_id is one that a task has "
                "given away."
            )
        self._give(waiting, event.metadata)

    def _export(self, event: ExportCompleteEvent) -> None:
        ids = (event.workflow_instance_id, event.export_task_id)
        awaited = awaited_answer(self._store, AnswerKind.EXPORT, ids)
        if awaited is None:
            raise InvalidEvent("No export was asked for with this workflow_instance_id and export_task_id.")
        body = {
            "status": event.status.value,
            "message": event.message,
            "files": {path: status.value for path, status in event.file_statuses.items()},
        }
        self._give(awaited.waiting, body)

    def _artifacts(self, event: ArtifactsReceivedEvent) -> None:
        """Bring the files of an application elsewhere to its task; several messages may bring some each."""
        awaited = awaited_answer(self._store, AnswerKind.ARTIFACTS, (event.workflow_instance_id, event.task_id))
        if awaited is None:
            raise InvalidEvent("No task waits for artifacts with this workflow_instance_id and task_id.")
        bucket = self._buckets.open(event.bucket)
        paths = {artifact.path: _output_of(str(artifact.type), awaited) for artifact in event.artifacts}
        digest = hashlib.sha256("\0".join(sorted(paths)).encode()).hexdigest()[:16]
        waiting = replace(awaited.waiting, note=f"{awaited.waiting.note}-{digest}")
        if self._store.exists(note_key(self._store, waiting)):
            return
        if has_ended(self._store, waiting) or is_doomed(self._store, waiting.payload_id):
            raise InvalidEvent(_LATE)
        brought: dict[str, list[str]] = {}
        for path, name in paths.items():
            for key in _files_at(bucket, path):
                target = self._copy(bucket, key, f"{awaited.output_key}/{safe_name(name)}")
                if target not in brought.setdefault(name, []):
                    brought[name].append(target)
        try:
            self._give(waiting, {"artifacts": brought})
        except InvalidEvent:
            if is_doomed(self._store, waiting.payload_id):  # whoever deletes it may have passed this place
                for targets in brought.values():
                    for target in targets:
                        self._store.delete(target)
            raise

    def _copy(self, bucket: Store, key: str, folder: str) -> str:
        """Key of a file of our own: that of the bucket belongs to others, who may change it.

        Files of one name that come from different folders are kept beside one another.
        """
        name = safe_name(PurePosixPath(key).name)
        path = self._spool / f"answer-{uuid.uuid4().hex}"
        try:
            bucket.fetch(key, path)
            target = f"{folder}/{name}"
            if not self._store.create_from(target, path) and not self._store.same(target, path):
                target = f"{folder}/{hashlib.sha256(key.encode()).hexdigest()[:12]}-{name}"
                self._store.create_from(target, path)
            return target
        finally:
            path.unlink(missing_ok=True)

    def _give(self, waiting: Waiting, body: Any) -> None:
        if give_answer(self._store, waiting, body) is Reception.UNKNOWN:
            raise InvalidEvent(_LATE)


_LATE = "It comes too late: the task that waited for it has ended, or its payload was deleted."


def _files_at(bucket: Store, path: str) -> list[str]:
    """Keys of the file, or of the files of the folder, at a path of a bucket."""
    try:
        key = check_key(path.strip("/"))
    except StoreError:
        raise InvalidEvent("A path among its artifacts is no path in a bucket.") from None
    found = list(bucket.list(key))
    if not found and bucket.exists(key):
        found = [key]
    if not found:
        raise FilesMissing("A file among the artifacts of the message is not in the bucket")
    return found


def _output_of(kind: str, awaited: Awaited) -> str:
    """Name of the output of a task that files of a type belong to."""
    for name, type_ in awaited.outputs:
        if kind.lower() in (type_.lower(), name.lower()):
            return name
    if len(awaited.outputs) == 1:
        return awaited.outputs[0][0]
    known = ", ".join(type_ for _, type_ in awaited.outputs)
    raise InvalidEvent(f"Its artifacts are of a type that the task does not wait for; it waits for {known}.")
