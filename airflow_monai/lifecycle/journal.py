"""The journal: everything that happened, in one order, in the store.

lifecycle/journal/<thousands>/<number>.json     a batch of events; whoever makes the object of a number decides it
lifecycle/instances/<2 digits>/<id>.json        what is known of an instance; can be made again from the journal
lifecycle/known.json                            up to which batch those hold everything

Two that write it at once make one journal: each adds what is not in it yet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_monai.errors import DamagedObject, StoreError
from airflow_monai.lifecycle.chronicle import Chronicle
from airflow_monai.lifecycle.happening import Happening
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once

FOLDER = "lifecycle/journal"
_INSTANCES = "lifecycle/instances"
_KNOWN = "lifecycle/known.json"
_IN_A_FOLDER = 1000
_CACHED = 20_000


class Journal:
    """Batches of events by number, from 1. Reading is safe for threads."""

    def __init__(self, store: Store):
        self._store = store
        self._read: OrderedDict[int, tuple[Happening, ...]] = OrderedDict()

    def end(self) -> int:
        """Number of the last batch; 0 while there is none."""
        folders = [name for name in self._store.children(FOLDER) if name.isdecimal()]
        for folder in sorted(folders, key=int, reverse=True):
            numbers = [int(name[:-5]) for name in self._store.children(f"{FOLDER}/{folder}") if name.endswith(".json")]
            if numbers:
                return max(numbers)
        return 0

    def first(self) -> int:
        """Number of the first batch that is still there; 1 while there is none."""
        for folder in sorted((name for name in self._store.children(FOLDER) if name.isdecimal()), key=int):
            numbers = [int(name[:-5]) for name in self._store.children(f"{FOLDER}/{folder}") if name.endswith(".json")]
            if numbers:
                return min(numbers)
        return 1

    def read(self, number: int) -> tuple[Happening, ...] | None:
        """A batch; None where there is none (yet, or any more)."""
        found = self._read.get(number)
        if found is None and self._store.exists(_key(number)):
            found = self._whole(number)
            self._keep(number, found)
        return found

    def _whole(self, number: int) -> tuple[Happening, ...]:
        """A batch that is there; of a damaged one nothing, so that all that comes after it is told nevertheless."""
        try:
            return self._store.read_as(_key(number), _Batch.from_dict).events
        except DamagedObject as error:
            tell_once(f"{error} Until then nobody is told of the up to some hundred events that it held.")
            return ()

    def create(self, number: int, events: Sequence[Happening]) -> bool:
        """Make a batch; False when somebody else has made that number."""
        return self._store.create_json(_key(number), {"events": [event.to_dict() for event in events]})

    def forget_before(self, number: int, old: Callable[[Happening], bool]) -> list[Happening]:
        """Remove whole folders of batches that are below this number and old.

        :param old: whether an event is.
        :return: what was removed.
        """
        removed: list[Happening] = []
        for folder in sorted((name for name in self._store.children(FOLDER) if name.isdecimal()), key=int)[:-1]:
            last = int(folder) * _IN_A_FOLDER + _IN_A_FOLDER - 1
            if last >= number:
                break
            numbers = range(last, last - _IN_A_FOLDER, -1)
            newest = next((batch for one in numbers if (batch := self.read(one))), ())  # past damaged ones
            if not newest or not all(map(old, newest)):
                break
            for one in range(last + 1 - _IN_A_FOLDER, last + 1):
                removed += self.read(one) or ()
            self._store.delete_tree(f"{FOLDER}/{folder}")
        return removed

    def _keep(self, number: int, events: tuple[Happening, ...]) -> None:
        self._read[number] = events
        while len(self._read) > 500:
            try:
                self._read.popitem(last=False)
            except KeyError:  # another thread was first
                return


class Known:
    """What is known of every instance, and the way to add to the journal. For one thread."""

    def __init__(self, store: Store, journal: Journal):
        self._store = store
        self._journal = journal
        self._chronicles: OrderedDict[str, Chronicle] = OrderedDict()
        self._number = 0
        self._noted = 0

    def catch_up(self) -> int:
        """Take in what others, or an earlier process, have added; number of the last batch."""
        if not self._number:
            self._number = self._noted = self._through()
        while (events := self._journal.read(self._number + 1)) is not None:
            self._absorb(events)
        return self._number

    def chronicle(self, instance_id: str) -> Chronicle | None:
        """What is known of an instance; None for nothing."""
        found = self._chronicles.get(instance_id)
        if found is None:
            found = self._load(instance_id)
            if found is not None:
                self._cache(found)
        return found

    def add(self, follows: Callable[[], Sequence[Happening]]) -> Sequence[Happening]:
        """Add to the journal what follows from what is known; what was added.

        :param follows: asked again when somebody else has added something meanwhile.
        """
        self.catch_up()
        while events := follows():
            if self._journal.create(self._number + 1, events):
                self._absorb(events)
                return events
            self.catch_up()
        return ()

    def forget(self, events: Iterable[Happening]) -> None:
        """Remove what is known of instances that have ended."""
        for instance_id in dict.fromkeys(event.instance_id for event in events):
            known = self.chronicle(instance_id)
            if known is not None and known.completed:
                self._store.delete(_instance_key(instance_id))
                self._chronicles.pop(instance_id, None)

    def note(self) -> None:
        """Let a later process begin after what is known now."""
        if self._number != self._noted:
            self._store.write_json(_KNOWN, {"through": self._number})
            self._noted = self._number

    def _absorb(self, events: Sequence[Happening]) -> None:
        changed: dict[str, Chronicle] = {}
        for event in events:
            chronicle = self.chronicle(event.instance_id)
            if chronicle is None:
                chronicle = Chronicle(event.instance_id)
                self._cache(chronicle)
            chronicle.apply(event)
            changed[event.instance_id] = chronicle
        for instance_id, chronicle in changed.items():
            self._store.write_json(_instance_key(instance_id), chronicle.to_dict(), durable=False)
        self._number += 1
        if self._number - self._noted >= 100:
            self.note()

    def _load(self, instance_id: str) -> Chronicle | None:
        key = _instance_key(instance_id)
        if not self._store.exists(key):
            return None
        try:
            return self._store.read_as(key, Chronicle.from_dict)
        except DamagedObject:  # a power cut left half of it; what is told twice has the same ids
            return None

    def _cache(self, chronicle: Chronicle) -> None:
        self._chronicles[chronicle.instance_id] = chronicle
        while len(self._chronicles) > _CACHED:
            self._chronicles.popitem(last=False)

    def _through(self) -> int:
        """Where to begin. What lies before may have been removed."""
        try:
            noted = self._store.read_as(_KNOWN, _through) if self._store.exists(_KNOWN) else 0
        except StoreError:
            noted = 0
        if self._journal.read(noted + 1) is not None or noted >= self._journal.end():
            return noted
        return self._journal.first() - 1


@dataclass(frozen=True, slots=True)
class _Batch:
    events: tuple[Happening, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> _Batch:
        return cls(tuple(map(Happening.from_dict, data["events"])))


def _through(data: Mapping[str, Any]) -> int:
    return int(data["through"])


def _key(number: int) -> str:
    return f"{FOLDER}/{number // _IN_A_FOLDER:07d}/{number:010d}.json"


def _instance_key(instance_id: str) -> str:
    return f"{_INSTANCES}/{instance_id[:2]}/{instance_id}.json"
