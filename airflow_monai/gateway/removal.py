"""Deletes the payloads that somebody wants gone: what was asked for is in the store, so that no gateway forgets it.

The same thread tells that the gateway is alive.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

from airflow_monai.errors import MonaiError
from airflow_monai.gateway.ways import MakeWayIn
from airflow_monai.intake.events import EventKind, EventLog, Reasons, log, log_internal
from airflow_monai.store.base import Store
from airflow_monai.store.deletion import (
    DeletionState,
    NotDeletable,
    delete_payload,
    doomed,
    is_doomed,
    note_not_deleted,
)
from airflow_monai.store.heartbeat import BEAT_SECONDS, beat, forget_dead, leave

LOOK_SECONDS = 3.0
AFTER_AN_ERROR = 30.0


def removal_by(is_worked_on: Callable[[str], bool]) -> MakeWayIn:
    """Has a gateway delete what is asked for."""
    return lambda parts: Remover(parts.store, parts.events, is_worked_on)


class Remover:
    """A thread that works off what is asked for; several gateways may do so on one store.

    :param is_worked_on: whether a run that has not ended works on the payload.
    """

    name = "removal"

    def __init__(self, store: Store, events: EventLog, is_worked_on: Callable[[str], bool]):
        self._store = store
        self._events = events
        self._reasons = Reasons(events)
        self._is_worked_on = is_worked_on
        self._name = uuid.uuid4().hex
        self._next_beat = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="removal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace: float) -> None:
        """What is being deleted may go on for ``grace`` seconds; another gateway goes on with it."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(grace)
        try:
            leave(self._store, self._name)
        except MonaiError as error:
            log.warning("the gateway's sign of life stays behind: %s", error)

    def _work(self) -> None:
        delay = 0.0
        while not self._stopped.wait(delay):
            delay = LOOK_SECONDS
            try:
                self._beat()
                for payload_id in sorted(doomed(self._store)):
                    if self._stopped.is_set():
                        return
                    self.remove(payload_id)
                    self._beat()
            except MonaiError as error:
                log.error("what is to be deleted cannot be looked for, it is tried again: %s", error)
                delay = AFTER_AN_ERROR
            except Exception as error:  # noqa: BLE001 - the edge of a thread; without it nothing would be deleted any more
                log_internal("deleting payloads, which is tried again", error)
                delay = AFTER_AN_ERROR

    def _beat(self) -> None:
        """Tell those who ask that a gateway is alive."""
        if time.monotonic() >= self._next_beat:
            if not self._next_beat:
                forget_dead(self._store)
            beat(self._store, self._name)
            self._next_beat = time.monotonic() + BEAT_SECONDS

    def remove(self, payload_id: str) -> bool:
        """Delete it if that can be done now; whether it is gone."""
        if not is_doomed(self._store, payload_id):
            return True
        try:
            if self._is_worked_on(payload_id):
                return False  # whoever asked for it was first; it is waited for silently
            done = delete_payload(self._store, payload_id, lambda: self._is_worked_on(payload_id))
        except NotDeletable:
            return False
        except MonaiError as error:  # also when nobody knows whether something works on it
            self._not_yet(payload_id, str(error))
            return False
        if done.state is DeletionState.YES:
            self._reasons.over(EventKind.DELETION_WAITING, payload_id=payload_id)
            self._events.emit(EventKind.PAYLOAD_DELETED, payload_id=payload_id, by=done.by, images=done.images)
        return True

    def _not_yet(self, payload_id: str, reason: str) -> None:
        self._reasons.tell(EventKind.DELETION_WAITING, reason, payload_id=payload_id)
        try:
            note_not_deleted(self._store, payload_id, reason)
        except MonaiError as error:
            log.error("payload %s: %s", payload_id, error)
