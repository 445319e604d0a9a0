"""Has a receiver told everything that it wants to know, in order for an instance, at least once.

lifecycle/channels/<name>/place.json             how far it came: the one thing that is kept
lifecycle/channels/<name>/again/<event>.json     somebody wants an event that was given up to be told all the same

A receiver that is away is asked again with growing pauses, and what waits for it waits in the journal. One that refuses
a single event has only that instance's events wait. What could not be told within a set time is given up, and listed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Protocol

from airflow_monai.errors import DamagedObject
from airflow_monai.lifecycle.happening import Happening
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import tell_once

FOLDER = "lifecycle/channels"
_RECENT, _FAILED = 50, 200
_STRIKES = 5
_AGAIN = "again"
_AGAIN_EVERY = 5.0


class Verdict(Enum):
    """What became of one attempt."""

    TOLD = "told"
    REFUSED = "refused"
    """It was heard, and answered that it is not taken."""
    AWAY = "away"
    """Nobody answered."""
    STOPPED = "stopped"
    """It was not tried: the receiver is no more, or another gateway has the turn."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    :param reason: why not, in a line without anything secret.
    """

    verdict: Verdict
    reason: str = ""


class Teller(Protocol):
    """Tells one receiver."""

    def wants(self, event: Happening) -> bool: ...

    def tell(self, event: Happening) -> Attempt:
        """Tell it; never raises."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """
    :param first: seconds until it is tried again, doubled with each failure up to ``last``.
    :param give_up: seconds after which an event is told no more.
    """

    first: float = 1.0
    last: float = 60.0
    give_up: float = 86_400.0

    def pause(self, failures: int) -> float:
        return float(min(self.last, self.first * 2 ** min(failures - 1, 20)))


Ref = tuple[int, int]
"""Number of a batch of the journal, and place in it."""


@dataclass(slots=True)
class Waiting:
    """Events of one instance that wait: the first one was tried.

    :param since: when the first one was tried first, and ``due``: when it is tried again; seconds since the epoch.
    """

    refs: list[Ref]
    since: float
    due: float
    tries: int
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event.

    :param at: when, ISO 8601; ``ref``: where it is in the journal.
    """

    event_id: str
    instance_id: str
    what: str
    at: str
    tries: int
    ref: Ref
    reason: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(**{**data, "ref": tuple(data["ref"])})


@dataclass(slots=True)
class Place:
    """How far a receiver was told.

    :param number: the batch to go on with, and ``index``: the event in it.
    :param waiting: instance -> its events that wait although later ones of others do not.
    :param down_since: since when nothing could be told; 0 for not. ``paused``: until when nothing is tried.
    :param told: how many were, ``failed``: how many were given up. The latest of both are in ``recent``, ``given_up``.
    """

    number: int
    index: int = 0
    waiting: dict[str, Waiting] = field(default_factory=dict)
    failures: int = 0
    down_since: float = 0.0
    paused: float = 0.0
    reason: str = ""
    told: int = 0
    failed: int = 0
    recent: list[Outcome] = field(default_factory=list)
    given_up: list[Outcome] = field(default_factory=list)

    @property
    def needed_from(self) -> int:
        """Number of the first batch that is still needed."""
        return min([self.number, *(ref[0] for one in self.waiting.values() for ref in one.refs)])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Place:
        known = dict(data)
        known["waiting"] = {
            name: Waiting(**{**one, "refs": [tuple(ref) for ref in one["refs"]]})
            for name, one in known["waiting"].items()
        }
        for name in ("recent", "given_up"):
            known[name] = list(map(Outcome.from_dict, known[name]))
        return cls(**known)


def place_key(channel: str) -> str:
    return f"{FOLDER}/{channel}/place.json"


def place_of(store: Store, channel: str) -> Place | None:
    """How far a receiver was told; None before anybody looked."""
    key = place_key(channel)
    if not store.exists(key):
        return None
    try:
        return store.read_as(key, Place.from_dict)
    except DamagedObject as error:  # after a power cut: some is told again, under the same ids
        tell_once(str(error))
        return None


def forget_channel(store: Store, channel: str) -> None:
    """Forget a receiver, and what waits for it."""
    store.delete_tree(f"{FOLDER}/{channel}")


def tell_again(store: Store, channel: str, event_ids: Iterable[str]) -> None:
    """Have events that were given up told all the same, by whoever has the turn."""
    for event_id in event_ids:
        store.write_json(f"{FOLDER}/{channel}/{_AGAIN}/{safe_name(event_id)}.json", {})


class Outbox:
    """The way to one receiver. For one thread.

    :param start: batch to begin with where the store does not know how far it came.
    :param clock: seconds since the epoch.
    :ivar needed_from: first batch that it still needs; may be read by other threads.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        channel: str,
        teller: Teller,
        *,
        start: int,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.time,
    ):
        self._store = store
        self._journal = journal
        self._channel = channel
        self._teller = teller
        self._patience = patience
        self._clock = clock
        self.place = place_of(store, channel) or Place(start)
        if journal.read(self.place.number) is None and journal.end() >= self.place.number:
            self.place.number, self.place.index = journal.first(), 0  # it was not told for so long that some is gone
        self.needed_from = self.place.needed_from
        self._written = (0, 0)
        self._last = Verdict.TOLD
        self._until: Callable[[], bool] = lambda: False
        self._asked_again = 0.0

    def step(self, until: Callable[[], bool] = lambda: False) -> float | None:
        """Tell what there is to tell now; seconds until it is worth while to come again, None for when there is news.

        :param until: asked between two events whether to stop.
        """
        self._until, self._last = until, Verdict.TOLD
        place = self.place
        self._take_up_again()
        if place.paused > self._clock():
            self._give_up_old()
            return max(0.05, place.paused - self._clock())
        for instance_id in self._due():
            self._go_on(instance_id)
            if self._is_over:
                break
        if not self._is_over:
            self._go_forward()
        if place.failures and (self._last is Verdict.AWAY or place.failures >= _STRIKES):
            rounds = place.failures if self._last is Verdict.AWAY else place.failures - _STRIKES + 1
            place.paused = self._clock() + self._patience.pause(rounds)
            self._write()
        return self._next()

    def close(self) -> None:
        self._teller.close()

    @property
    def _is_over(self) -> bool:
        """Whether nothing more is to be tried now."""
        return self._last in (Verdict.AWAY, Verdict.STOPPED) or self._until()

    def _next(self) -> float | None:
        now = self._clock()
        if self.place.paused > now:
            return max(0.05, self.place.paused - now)
        dues = [one.due for one in self.place.waiting.values()]
        return max(0.05, min(dues) - now) if dues else None

    def _due(self) -> list[str]:
        """Instances whose turn it is to be tried again, the one first that has waited longest; of a receiver that was
        away just one, to see whether it is back."""
        now = self._clock()
        found = sorted((one.due, name) for name, one in self.place.waiting.items() if one.due <= now)
        return [name for _, name in found][: 1 if self.place.failures else None]

    def _go_on(self, instance_id: str) -> None:
        """Tell what waits of an instance, until one fails."""
        waiting = self.place.waiting[instance_id]
        while waiting.refs:
            event = self._event(waiting.refs[0])
            if event is not None and not self._expired(event, waiting.since):
                attempt = self._attempt(event, waiting.tries + 1, waiting.refs[0])
                if attempt.verdict is Verdict.STOPPED:
                    return
                if attempt.verdict is not Verdict.TOLD:
                    waiting.tries += 1
                    waiting.reason = attempt.reason
                    waiting.due = self._clock() + self._patience.pause(waiting.tries)
                    self._write()
                    return
            elif event is not None:
                self._give_up(event, waiting.tries, waiting.refs[0], waiting.reason)
            del waiting.refs[0]
            waiting.tries, waiting.since = 0, self._clock()
            if not waiting.refs:
                del self.place.waiting[instance_id]
            self._write()
            if self._until():
                return

    def _go_forward(self) -> None:
        """Tell what was not looked at yet."""
        place = self.place
        while (batch := self._journal.read(place.number)) is not None:
            while place.index < len(batch):
                event = batch[place.index]
                if self._teller.wants(event):
                    self._take((place.number, place.index), event)
                    if self._last is Verdict.STOPPED:
                        return
                    place.index += 1
                    self._write()
                    if self._is_over or place.failures >= _STRIKES:
                        return
                else:
                    place.index += 1
            place.number, place.index = place.number + 1, 0
        if (place.number, place.index) != self._written:
            self._write()

    def _take(self, ref: Ref, event: Happening) -> None:
        """Tell an event, or have it wait: behind others of its instance, or because it cannot be told."""
        waiting = self.place.waiting.get(event.instance_id)
        if waiting is not None:
            waiting.refs.append(ref)
            return
        if self.place.down_since and self._expired(event, self.place.down_since):
            self._give_up(event, 0, ref, self.place.reason)
            return
        attempt = self._attempt(event, 1, ref)
        if attempt.verdict in (Verdict.REFUSED, Verdict.AWAY):
            now = self._clock()
            self.place.waiting[event.instance_id] = Waiting(
                [ref], now, now + self._patience.pause(1), 1, attempt.reason
            )

    def _take_up_again(self) -> None:
        """What somebody wants to be told although it was given up."""
        now = self._clock()
        if now - self._asked_again < _AGAIN_EVERY:
            return
        self._asked_again = now
        folder = f"{FOLDER}/{self._channel}/{_AGAIN}"
        names = list(self._store.children(folder))
        wanted = [one for one in self.place.given_up if f"{safe_name(one.event_id)}.json" in names]
        for outcome in wanted:
            self.place.given_up.remove(outcome)
            self.place.failed -= 1
            waiting = self.place.waiting.setdefault(outcome.instance_id, Waiting([], now, now, 0, ""))
            waiting.refs = sorted({*waiting.refs, outcome.ref})
            waiting.since, waiting.due = now, now
        if wanted:
            self.place.paused = 0.0
            self._write()
        for name in names:
            self._store.delete(f"{folder}/{name}")

    def _attempt(self, event: Happening, tries: int, ref: Ref) -> Attempt:
        place, now = self.place, self._clock()
        attempt = self._teller.tell(event)
        self._last = attempt.verdict
        if attempt.verdict is Verdict.TOLD:
            place.failures, place.down_since, place.paused, place.reason = 0, 0.0, 0.0, ""
            place.told += 1
            place.recent = [*place.recent[1 - _RECENT :], self._outcome(event, tries, ref, "")]
        elif attempt.verdict is not Verdict.STOPPED:
            place.failures += 1
            place.down_since = place.down_since or now
            place.reason = attempt.reason
        return attempt

    def _expired(self, event: Happening, since: float) -> bool:
        """Whether it has been told in vain for too long.

        :param since: when that began.
        """
        happened = datetime.fromisoformat(event.at).timestamp()
        return self._clock() - max(happened, since) > self._patience.give_up

    def _give_up_old(self) -> None:
        """Of a receiver that is away for good, what waits must come to an end too."""
        place = self.place
        for instance_id, waiting in list(place.waiting.items()):
            while waiting.refs:
                event = self._event(waiting.refs[0])
                if event is not None and not self._expired(event, waiting.since):
                    break
                if event is not None:
                    self._give_up(event, waiting.tries, waiting.refs[0], waiting.reason)
                del waiting.refs[0]
                waiting.tries = 0
            if not waiting.refs:
                del place.waiting[instance_id]
        while place.down_since and (batch := self._journal.read(place.number)) is not None:
            for event in batch[place.index :]:
                if self._teller.wants(event):
                    if event.instance_id in place.waiting or not self._expired(event, place.down_since):
                        return
                    self._give_up(event, 0, (place.number, place.index), place.reason)
                place.index += 1
            place.number, place.index = place.number + 1, 0

    def _give_up(self, event: Happening, tries: int, ref: Ref, reason: str) -> None:
        self.place.failed += 1
        self.place.given_up = [*self.place.given_up[1 - _FAILED :], self._outcome(event, tries, ref, reason)]
        self._write()

    def _outcome(self, event: Happening, tries: int, ref: Ref, reason: str) -> Outcome:
        at = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat(timespec="milliseconds")
        return Outcome(event.id, event.instance_id, event.what.value, at, tries, ref, reason)

    def _event(self, ref: Ref) -> Happening | None:
        """None where the journal has it no more."""
        batch = self._journal.read(ref[0])
        return batch[ref[1]] if batch is not None and ref[1] < len(batch) else None

    def _write(self) -> None:
        """A power cut may undo it: then some are told again."""
        self._store.write_json(place_key(self._channel), self.place.to_dict(), durable=False)
        self._written = (self.place.number, self.place.index)
        self.needed_from = self.place.needed_from
