"""Tasks that wait for an answer from elsewhere, and giving it to them: the first one counts.

payloads/<payload_id>/workflows/<dag_id>/<run_id>/<task>[/<map index>]/g<N>.<note>.json     the answer
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from airflow_monai.store.base import Store
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.types import FailureKind, TaskStatus

_OVER = (FailureKind.TIMEOUT.value, FailureKind.EXIT_CODE.value)
"""Kinds of failure after which what a task waited for is given up."""


class Reception(str, Enum):
    """What became of an answer."""

    TAKEN = "taken"
    REPEATED = "repeated"
    """There is an answer already, and it stays."""
    UNKNOWN = "unknown"
    """Nobody waits, or waits any more, for this answer."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits for an answer.

    :param note: name of the note that the answer becomes.
    """

    payload_id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    generation: int
    note: str


def give_answer(store: Store, waiting: Waiting, body: Any) -> Reception:
    """Give the answer to who waits for it; of several answers the first one counts.

    :param body: a JSON document.
    :return: ``UNKNOWN`` when the task has ended, so that nobody would read it any more, or its payload was deleted.
    """
    key = note_key(store, waiting)
    if store.exists(key):
        return Reception.REPEATED
    if has_ended(store, waiting) or is_doomed(store, waiting.payload_id):
        return Reception.UNKNOWN
    received = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    taken = store.create_json(key, {"received": received, "body": body})
    if is_doomed(store, waiting.payload_id):  # since we looked: whoever deletes it may have passed this place
        store.delete(key)
        return Reception.UNKNOWN
    return Reception.TAKEN if taken else Reception.REPEATED


def has_ended(store: Store, waiting: Waiting) -> bool:
    """Whether no try of the generation that waits will look for an answer any more."""
    record = _folder(store, waiting).record(waiting.task_id, waiting.map_index)
    if record is None or record.generation < waiting.generation:
        return False
    if record.generation > waiting.generation or record.status is not TaskStatus.FAILED:
        return True
    return record.stats.get("error_kind") in _OVER


def begins_anew(store: Store, waiting: Waiting) -> bool:
    """Whether the task has begun a later generation, since somebody has cleared it."""
    fence = Fence(_folder(store, waiting), waiting.task_id, waiting.map_index, try_number=0)
    return fence.last().generation > waiting.generation


def note_key(store: Store, waiting: Waiting) -> str:
    """Where an answer lies once it was given."""
    return _folder(store, waiting).note_key(waiting.task_id, waiting.map_index, waiting.generation, waiting.note)


def _folder(store: Store, waiting: Waiting) -> RunFolder:
    return RunFolder(store, waiting.payload_id, waiting.dag_id, waiting.run_id)
