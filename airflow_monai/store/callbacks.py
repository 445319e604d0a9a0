"""Answers that a service sends when it is done: told by a secret token, and taken once.

callbacks/<SHA-256 of the token>.json     whom the answer is for

The answer becomes a note of its task (:mod:`airflow_monai.store.giving`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from typing import Any

from airflow_monai.store.base import Store
from airflow_monai.store.giving import Reception, Waiting, give_answer

CALLBACKS = "callbacks"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,100}")


def await_callback(store: Store, token: str, waiting: Waiting) -> None:
    """Say who waits for the answer with a token. Saying it again changes nothing."""
    store.create_json(_key(token), asdict(waiting))


def waiting_for(store: Store, token: str) -> Waiting | None:
    """Who waits, or waited, for the answer with a token."""
    if not _TOKEN.fullmatch(token) or not store.exists(_key(token)):
        return None
    return store.read_as(_key(token), lambda data: Waiting(**data))


def resolve_callback(store: Store, token: str, body: Any) -> Reception:
    """Give an answer to the task that waits for it; of several answers the first one counts.

    :param token: as the service sent it.
    :param body: its JSON document.
    :return: ``UNKNOWN``, too, when the task has ended or its payload was deleted.
    """
    waiting = waiting_for(store, token)
    if waiting is None:
        return Reception.UNKNOWN
    return give_answer(store, waiting, body)


def _key(token: str) -> str:
    return f"{CALLBACKS}/{hashlib.sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()}.json"
