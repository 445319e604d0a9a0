"""Answers that come by message, and the tasks that wait for them; each is taken once.

    answers/<hash of kind and ids>.json      whom the answer is for

The answer becomes a note of its task, as with :mod:`airflow_monai.store.callbacks`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from airflow_monai.store.base import Store
from airflow_monai.store.callbacks import Reception, Waiting
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import FailureKind, TaskStatus

ANSWERS = "answers"
_OVER = (FailureKind.TIMEOUT.value, FailureKind.EXIT_CODE.value)
"""Kinds of failure after which what a task waited for is given up."""


class AnswerKind(str, Enum):
    """What a task waits for."""

    CALLBACK = "callback"  # told by the execution's id
    EXPORT = "export"  # told by the ids of the export
    ARTIFACTS = "artifacts"  # told by the ids of the task


@dataclass(frozen=True, slots=True)
class Awaited:
    """A task that waits for an answer.

    :param output_key: where files that come with it are to be put.
    :param outputs: names and types of these.
    """

    waiting: Waiting
    output_key: str = ""
    outputs: tuple[tuple[str, str], ...] = field(default=())


def await_answer(store: Store, kind: AnswerKind, ids: tuple[str, ...], awaited: Awaited) -> None:
    """Say who waits for the answer with these ids. Saying it again changes nothing."""
    store.create_json(_key(kind, ids), asdict(awaited))


def awaited_answer(store: Store, kind: AnswerKind, ids: tuple[str, ...]) -> Awaited | None:
    """Who waits, or waited, for the answer with these ids."""
    key = _key(kind, ids)
    if not store.exists(key):
        return None
    data = store.read_json(key)
    outputs = tuple((str(name), str(type_)) for name, type_ in data["outputs"])
    return Awaited(Waiting(**data["waiting"]), data["output_key"], outputs)


def give_answer(store: Store, waiting: Waiting, body: Any) -> Reception:
    """Give the answer to who waits for it; of several answers the first one counts.

    :return: ``UNKNOWN`` when the task has ended, so that nobody would read it any more.
    """
    if store.exists(note_key(store, waiting)):
        return Reception.REPEATED
    if has_ended(store, waiting):
        return Reception.UNKNOWN
    received = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    taken = store.create_json(note_key(store, waiting), {"received": received, "body": body})
    return Reception.TAKEN if taken else Reception.REPEATED


def has_ended(store: Store, waiting: Waiting) -> bool:
    """Whether no try of the generation that waits will look for an answer any more."""
    record = _folder(store, waiting).record(waiting.task_id, waiting.map_index)
    if record is None or record.generation < waiting.generation:
        return False
    if record.generation > waiting.generation or record.status is not TaskStatus.FAILED:
        return True
    return record.stats.get("error_kind") in _OVER


def note_key(store: Store, waiting: Waiting) -> str:
    """Where an answer lies once it was given."""
    return _folder(store, waiting).note_key(waiting.task_id, waiting.map_index, waiting.generation, waiting.note)


def _folder(store: Store, waiting: Waiting) -> RunFolder:
    return RunFolder(store, waiting.payload_id, waiting.dag_id, waiting.run_id)


def _key(kind: AnswerKind, ids: tuple[str, ...]) -> str:
    text = json.dumps([kind.value, *ids])
    return f"{ANSWERS}/{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}.json"
