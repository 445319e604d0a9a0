"""Answers that a service sends when it is done: told by a secret token, and taken once.

callbacks/<SHA-256 of the token>.json     whom the answer is for
payloads/<payload_id>/workflows/<dag_id>/<run_id>/<task>[/<map index>]/g<N>.<note>.json     the answer
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from airflow_monai.store.base import Store
from airflow_monai.store.runs import RunFolder

CALLBACKS = "callbacks"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,100}")


class Reception(str, Enum):
    """What became of an answer."""

    TAKEN = "taken"
    REPEATED = "repeated"
    """There is an answer already, and it stays."""
    UNKNOWN = "unknown"
    """Nobody waits, or ever waited, for an answer with this token."""


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


def await_callback(store: Store, token: str, waiting: Waiting) -> None:
    """Say who waits for the answer with a token. Saying it again changes nothing."""
    store.create_json(_key(token), asdict(waiting))


def waiting_for(store: Store, token: str) -> Waiting | None:
    """Who waits, or waited, for the answer with a token."""
    if not _TOKEN.fullmatch(token) or not store.exists(_key(token)):
        return None
    return Waiting(**store.read_json(_key(token)))


def resolve_callback(store: Store, token: str, body: Any) -> Reception:
    """Give an answer to the task that waits for it; of several answers the first one counts.

    :param token: as the service sent it.
    :param body: its JSON document.
    """
    waiting = waiting_for(store, token)
    if waiting is None:
        return Reception.UNKNOWN
    folder = RunFolder(store, waiting.payload_id, waiting.dag_id, waiting.run_id)
    key = folder.note_key(waiting.task_id, waiting.map_index, waiting.generation, waiting.note)
    received = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    taken = store.create_json(key, {"received": received, "body": body})
    return Reception.TAKEN if taken else Reception.REPEATED


def _key(token: str) -> str:
    return f"{CALLBACKS}/{hashlib.sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()}.json"
