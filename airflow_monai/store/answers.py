"""Answers that come by message, and the tasks that wait for them; each is taken once.

    answers/<hash of kind and ids>.json      whom the answer is for

The answer becomes a note of its task (:mod:`airflow_monai.store.giving`), as with :mod:`airflow_monai.store.callbacks`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from airflow_monai.store.base import Store
from airflow_monai.store.giving import Waiting

ANSWERS = "answers"


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
    return store.read_as(key, _awaited)


def _awaited(data: Mapping[str, Any]) -> Awaited:
    outputs = tuple((str(name), str(type_)) for name, type_ in data["outputs"])
    return Awaited(Waiting(**data["waiting"]), data["output_key"], outputs)


def _key(kind: AnswerKind, ids: tuple[str, ...]) -> str:
    text = json.dumps([kind.value, *ids])
    return f"{ANSWERS}/{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}.json"
