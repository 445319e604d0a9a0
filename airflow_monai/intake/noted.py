"""Tells why payloads wait, and notes it beside them."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from airflow_monai.errors import StoreError
from airflow_monai.intake.events import EventKind, EventLog, Reasons, log
from airflow_monai.store.base import Store
from airflow_monai.store.waiting import Waiting, forget_waiting, note_waiting

NOTE_AGAIN_SECONDS = 60.0


class NotedReasons(Reasons):
    """Reasons that are kept in the store too; for events of a ``payload_id``, and a ``dag_id`` or none."""

    def __init__(self, events: EventLog, store: Store):
        super().__init__(events)
        self._store = store
        self._noted: dict[tuple[str, str], tuple[Waiting, float]] = {}

    def tell(self, kind: EventKind, reason: str, **what: str) -> None:
        super().tell(kind, reason, **what)
        key = what["payload_id"], what.get("dag_id", "")
        noted, when = self._noted.get(key, (None, 0.0))
        if noted and noted.reason == reason and time.monotonic() - when < NOTE_AGAIN_SECONDS:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        since = noted.since if noted and noted.reason == reason else now
        waiting = Waiting(reason, since, now, key[1])
        self._noted[key] = waiting, time.monotonic()
        try:
            note_waiting(self._store, key[0], waiting)
        except StoreError as error:
            log.warning("payload %s: why it waits cannot be noted: %s", key[0], error)

    def over(self, kind: EventKind, **what: str) -> None:
        super().over(kind, **what)
        key = what["payload_id"], what.get("dag_id", "")
        if self._noted.pop(key, None):
            try:
                forget_waiting(self._store, *key)
            except StoreError as error:
                log.warning("payload %s: a note that it waits cannot be removed: %s", key[0], error)
