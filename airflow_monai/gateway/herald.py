"""Tells whoever wants to know what happens to workflow instances: handlers by HTTP, and the broker.

One gateway of those on a store does it at a time. All that must be remembered is in the store.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_monai.errors import StoreError
from airflow_monai.intake.events import EventKind, EventLog, Reasons, log_internal
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.observed import AirflowAway, Watched
from airflow_monai.lifecycle.outbox import FOLDER, Outbox, Patience, forget_channel
from airflow_monai.lifecycle.receiver import Receiver, Receivers
from airflow_monai.lifecycle.turn import Turn
from airflow_monai.lifecycle.watcher import Watcher
from airflow_monai.store.base import Store

if TYPE_CHECKING:
    from airflow_monai.gateway.ways import GatewayParts, MakeWayIn, WayIn

LOOK_SECONDS = 1.5
IDLE_SECONDS = 3.0
"""How soon it is seen that there is somebody to be told."""
_SENDER_SECONDS = 30.0


class Herald:
    """A part of a gateway as a way in is: it is started and stopped with it."""

    name = "herald"

    def __init__(
        self,
        store: Store,
        airflow: Watched,
        receivers: Receivers,
        events: EventLog,
        *,
        patience: Patience | None = None,
        look_seconds: float = LOOK_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        turn: Turn | None = None,
    ):
        self._store = store
        self._airflow = airflow
        self._receivers = receivers
        self._events = events
        self._reasons = Reasons(events)
        self._patience = patience or Patience()
        self._look_seconds, self._idle_seconds = look_seconds, idle_seconds
        self._turn = turn or Turn(store)
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._journal = Journal(store)
        self._watcher: Watcher | None = None
        self._senders: dict[str, _Sender] = {}
        self._leaving: dict[str, _Sender] = {}
        """Of those who want to know no more; their channels are forgotten when they have ended."""
        self._threads = [
            threading.Thread(target=self._work, name="herald", daemon=True),
            threading.Thread(target=self._keep_turn, name="herald-turn", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, grace: float) -> None:
        self._stopped.set()
        self._wanted.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(grace, 1.0))

    def _keep_turn(self) -> None:
        while not self._stopped.is_set():
            self._wanted.wait()
            if self._stopped.wait(0.0):
                break
            try:
                self._turn.ask()
            except StoreError as error:
                self._reasons.tell(EventKind.TELLING_WAITS, str(error), channel="")
            except Exception as error:  # noqa: BLE001 - the edge of a thread
                log_internal("asking whose turn it is to tell what happens", error)
            self._stopped.wait(1.0)
        try:
            self._turn.give_up()
        except Exception as error:  # noqa: BLE001 - the edge of a thread that ends
            log_internal("giving up the turn to tell what happens", error)

    def _work(self) -> None:
        while not self._stopped.is_set():
            pause = self._idle_seconds
            try:
                pause = self._round()
            except (AirflowAway, StoreError) as error:
                self._reasons.tell(EventKind.TELLING_WAITS, str(error), channel="")
                pause = self._look_seconds
            except Exception as error:  # noqa: BLE001 - the edge of a thread; it goes on
                log_internal("telling what happens, which is tried again", error)
            self._stopped.wait(pause)
        self._release()

    def _round(self) -> float:
        """Look once, if it is our turn; after how many seconds to do so again."""
        receivers = self._receivers()
        told = {name: receiver for name, receiver in receivers.items() if not receiver.waits}
        if not told:
            self._wanted.clear()
            self._release()
            return self._idle_seconds
        self._wanted.set()
        if not self._turn.held:
            self._release()
            return min(0.5, self._look_seconds)
        self._attend(receivers)
        if self._watcher is None:
            # assigned when it has begun: the store may be away just then
            watcher = Watcher(self._store, self._journal, self._airflow)
            watcher.begin(min(one.since for one in told.values()))
            self._watcher = watcher
        if self._watcher.look():
            for sender in self._senders.values():
                sender.wake()
        self._reasons.over(EventKind.TELLING_WAITS, channel="")
        self._watcher.prune(min(sender.outbox.needed_from for sender in self._senders.values()))
        return 0.0 if self._watcher.is_behind else self._look_seconds

    def _attend(self, receivers: Mapping[str, Receiver]) -> None:
        """Have a sender for everybody who wants to know, and none for others."""
        told = {name: receiver for name, receiver in receivers.items() if not receiver.waits}
        for name in [name for name in self._senders if name not in told]:
            self._leaving[name] = self._senders.pop(name)
            self._leaving[name].stop(wait=False)  # it may be telling a slow one just now
        for name in [name for name, sender in self._leaving.items() if not sender.is_alive]:
            del self._leaving[name]
            if name not in receivers:
                forget_channel(self._store, name)
        if not self._senders:
            for name in self._store.children(FOLDER):
                if name.startswith("handler-") and name not in receivers and name not in self._leaving:
                    forget_channel(self._store, name)  # it was unregistered while nobody was here to see it
        for name, receiver in told.items():
            if name not in self._senders:
                outbox = Outbox(
                    self._store,
                    self._journal,
                    name,
                    receiver.teller(),
                    start=receiver.start,
                    patience=self._patience,
                )
                self._senders[name] = _Sender(name, outbox, self._turn, self._events, self._reasons)
                self._senders[name].start()

    def _release(self) -> None:
        """It is another one's turn, or nobody wants to know."""
        ending = [*self._senders.values(), *self._leaving.values()]
        for sender in ending:
            sender.stop(wait=False)
        for sender in ending:
            sender.stop()
        self._senders.clear()
        self._leaving.clear()
        if self._watcher is not None and self._turn.held:
            self._watcher.stop()
        self._watcher = None


class _Sender:
    """The thread that tells one receiver: a slow one keeps no other waiting."""

    def __init__(self, name: str, outbox: Outbox, turn: Turn, events: EventLog, reasons: Reasons):
        self.outbox = outbox
        self._name = name
        self._turn = turn
        self._events = events
        self._reasons = reasons
        self._given_up = outbox.place.failed
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tell-{name}", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def stop(self, wait: bool = True) -> None:
        self._ended.set()
        self._woken.set()
        if wait and self._thread.is_alive():
            self._thread.join(15.0)

    def _work(self) -> None:
        while not self._ended.is_set():
            self._woken.clear()
            pause: float | None = 5.0
            try:
                if self._turn.held:
                    pause = self.outbox.step(lambda: self._ended.is_set() or not self._turn.held)
                    self._tell_how_it_is()
            except StoreError as error:
                self._reasons.tell(EventKind.TELLING_WAITS, str(error), channel=self._name)
            except Exception as error:  # noqa: BLE001 - the edge of a thread; it goes on
                log_internal(f"telling {self._name}, which is tried again", error)
            self._woken.wait(_SENDER_SECONDS if pause is None else pause)
        self.outbox.close()

    def _tell_how_it_is(self) -> None:
        place = self.outbox.place
        if place.failures:
            self._reasons.tell(EventKind.TELLING_WAITS, place.reason, channel=self._name)
        else:
            self._reasons.over(EventKind.TELLING_WAITS, channel=self._name)
        if place.failed > self._given_up:
            count, self._given_up = place.failed - self._given_up, place.failed
            self._events.emit(EventKind.TELLING_GIVEN_UP, channel=self._name, count=count, reason=place.reason)


def herald() -> MakeWayIn:
    """Makes the herald of this site."""

    def make(parts: GatewayParts) -> WayIn:
        from airflow_monai import settings
        from airflow_monai.gateway.receivers import site_receivers
        from airflow_monai.hooks.airflow_api import AirflowApi
        from airflow_monai.hooks.airflow_changes import AirflowChanges

        site = settings.load_notifications()
        airflow = AirflowChanges(AirflowApi(settings.load().api_conn_id))
        patience = Patience(give_up=3600 * site.give_up_hours)
        return Herald(parts.store, airflow, site_receivers(parts.store), parts.events, patience=patience)

    return make
