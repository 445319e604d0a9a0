"""The ledger of an export: what became of each instance at each sink, one object an instance in the store.

    payloads/<payload id>/exports/<sink>/<identity>.json          what became of it
    payloads/<payload id>/export-batches/<sink>/<batch>.json      the same of many, and what is about to be sent

Instances are sent in batches. A batch is in the store, durable, before its first request, with ``sent`` for each
instance; the instance's own entry follows with the verdict; and when all have theirs, the batch is written once more,
durable, with the verdicts. So two durable objects do for many instances.

Entries are not flushed one by one: a power cut may take the newest, and a killed process the few that it had not
written yet. The batch then knows these verdicts, or says ``sent``, which means that a process ended between request and
verdict. Such an instance is sent again; that is harmless where its name decides (C-STORE of the same SOP Instance UID).
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from types import TracebackType
from typing import Any

from airflow_monai.errors import Fenced, MonaiError, StoreError
from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import payload_key

AHEAD = 64
"""How many instances make a batch."""
_BEHIND = 8  # entries that may wait to be written
_DUPLICATE = "0111"  # Duplicate SOP Instance (PS3.7 section C.5.8)
_UNANSWERED = (DeliveryState.SENT, DeliveryState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one instance at one sink.

    :param status: the far side's code; ``message`` its meaning; ``comment`` its own words, which may name a patient.
    :param time: of this entry; UTC, ISO 8601.
    :param task: ``<dag>/<run>/<task>`` that made it.
    :param attempts: requests so far, over all tasks and tries.
    :param digest: SHA-256 of what was sent, None for a received image.
    """

    state: DeliveryState
    status: str = ""
    message: str = ""
    comment: str = ""
    time: str = ""
    task: str = ""
    attempts: int = 0
    digest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"state": self.state.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        return cls(**{**data, "state": DeliveryState(data["state"])})


_NOTHING = Entry(DeliveryState.PENDING)
Batch = Mapping[str, Entry]
"""What is known of several instances, by identity."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The entries of one payload at one sink."""

    store: Store
    payload_id: str
    sink: str

    def key(self, identity: str) -> str:
        return payload_key(self.payload_id, "exports", safe_name(self.sink), f"{safe_name(identity)}.json")

    def batch_key(self, *name: str) -> str:
        return payload_key(self.payload_id, "export-batches", safe_name(self.sink), *name)

    def entry(self, identity: str) -> Entry | None:
        """What is known of an instance, None when it was never sent."""
        return self.known([identity]).get(identity)

    def known(self, identities: Iterable[str]) -> dict[str, Entry]:
        """What is known of these instances; without those that were never sent."""
        listed = self._listed()
        found = {identity: _later(self.written(identity), listed.get(safe_name(identity))) for identity in identities}
        return {identity: entry for identity, entry in found.items() if entry is not None}

    def written(self, identity: str) -> Entry | None:
        """The instance's own entry."""
        key = self.key(identity)
        if not self.store.exists(key):
            return None
        data = self.store.read(key)
        if not data.strip(b"\0"):
            return None  # a power cut took it
        try:
            return Entry.from_dict(json.loads(data))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The ledger entry {key} is damaged: {error}.") from error

    def write(self, identity: str, entry: Entry, durable: bool = True) -> None:
        """Enter it; see :meth:`airflow_monai.store.base.Store.write` for ``durable``."""
        self.store.write_json(self.key(identity), entry.to_dict(), durable)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """(identity, entry) of everything that was ever sent there."""
        names = self.store.children(payload_key(self.payload_id, "exports", safe_name(self.sink)))
        identities = {name.removesuffix(".json") for name in names}
        identities.update(self._listed())
        yield from self.known(sorted(identities)).items()

    def write_batch(self, name: str, batch: Batch) -> None:
        """Enter several instances together, durable when this returns; an empty batch is removed."""
        if batch:
            entries = {safe_name(identity): entry.to_dict() for identity, entry in batch.items()}
            self.store.write_json(self.batch_key(name), entries)
        else:
            self.store.delete(self.batch_key(name))

    def _listed(self) -> dict[str, Entry]:
        """File name of the identity -> the latest that a batch knows of it."""
        latest: dict[str, Entry] = {}
        for name in self.store.children(self.batch_key()):
            for identity, entry in self._batch(name).items():
                latest[identity] = _later(latest.get(identity), entry) or entry
        return latest

    def _batch(self, name: str) -> Batch:
        key = self.batch_key(name)
        if not self.store.exists(key):
            return {}  # removed a moment ago
        try:
            return {identity: Entry.from_dict(data) for identity, data in self.store.read_json(key).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"The ledger's batch {key} is damaged: {error}.") from error


def _later(one: Entry | None, other: Entry | None) -> Entry | None:
    """The later news of an instance: that of more requests, and the verdict rather than the request."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda entry: (entry.attempts, entry.state is not DeliveryState.SENT))


class Recorder:
    """Enters the news of a sending into the ledger, without slowing it down.

    Use it as a context: when that ends, all verdicts are durable. ``verdicts`` then holds the latest news of each
    instance, and ``attempts`` the requests of this try.

    :param digests: identity -> digest of what is to be sent, in the order of sending.
    :param task: for the entries, see :class:`Entry`.
    :param before_request: called before each request and before each entry; what it raises ends the sending, so that a
        process that another has replaced neither sends nor writes (but for an acceptance that is news).
    """

    def __init__(
        self,
        ledger: Ledger,
        digests: Mapping[str, str | None],
        *,
        task: str,
        before_request: Callable[[], None],
    ):
        self.verdicts: dict[str, Delivery] = {}
        self.attempts = 0
        self._ledger = ledger
        self._digests = digests
        self._task = task
        self._before_request = before_request
        self._following = iter(digests)  # what is in no batch yet
        self._earlier: dict[str, Entry] | None = None  # what was known before this sending
        self._entries: dict[str, Entry] = {}
        self._open: dict[str, Batch] = {}  # batches of which not all verdicts are durable
        self._ahead: dict[str, tuple[Entry, Future[None]]] = {}  # in a batch, not sent yet: their entry when they are
        self._unwritten: set[str] = set()  # sent, but the latest news is not entered yet
        self._unanswered: set[str] = set()  # were sent before, and nobody knows what became of it
        self._entering: deque[Future[None]] = deque()
        self._closing: list[Future[None]] = []
        # one thread each, so that both kinds are written in order, and entries need not wait for a batch's flush
        self._enterer = ThreadPoolExecutor(1, thread_name_prefix="ledger-entries")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger-batches")

    def __enter__(self) -> Recorder:
        self._announce(self._following_ones())  # is in the store while the sink still calls the far side
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._finish()
        except MonaiError:
            if kind is None:
                raise
            # the open batches stay as they are, so that the next try takes for sent what was not entered
        finally:
            self._enterer.shutdown(wait=True)
            self._writer.shutdown(wait=True)

    def __call__(self, delivery: Delivery) -> None:
        """Take the news; this is the ``on_result`` of :meth:`airflow_monai.sinks.base.Sink.send`."""
        identity = delivery.identity
        if delivery.state is DeliveryState.SENT:
            self._before_request()
            self._enter_sent(identity)
            self.attempts += 1
            return
        delivery = self._judged_again(delivery)
        self.verdicts[identity] = delivery
        self._entries[identity] = self._entry_of(delivery)
        self._ahead.pop(identity, None)
        self._unwritten.add(identity)
        try:
            self._before_request()
        except Fenced:
            self._write_late_acceptance(identity)
            raise
        self._write(identity)

    def _enter_sent(self, identity: str) -> None:
        """Return when the store holds that this instance is being sent; the next batch is on its way by then."""
        if identity not in self._ahead:
            self._announce([identity] if identity in self._entries else [identity, *self._following_ones()])
        entry, durable = self._ahead.pop(identity)
        if len(self._ahead) == AHEAD // 2:
            self._announce(self._following_ones())
        durable.result()
        self._entries[identity] = entry
        self._unwritten.add(identity)

    def _following_ones(self) -> list[str]:
        return [name for name in islice(self._following, AHEAD) if name not in self._entries]

    def _announce(self, identities: Sequence[str]) -> None:
        """Begin a batch, and write those once more that are complete."""
        if not identities:
            return
        known = self._known_before()
        for name in identities:
            if (self._entries.get(name) or known.get(name) or _NOTHING).state in _UNANSWERED:
                self._unanswered.add(name)
        batch = {name: self._next_attempt(name) for name in identities}
        key = f"{uuid.uuid4().hex}.json"
        durable = self._writer.submit(self._ledger.write_batch, key, batch)
        self._ahead.update((name, (entry, durable)) for name, entry in batch.items())
        complete = self._complete()
        self._open[key] = batch
        self._close(complete)

    def _known_before(self) -> dict[str, Entry]:
        if self._earlier is None:
            self._earlier = self._ledger.known(self._digests)
        return self._earlier

    def _next_attempt(self, identity: str) -> Entry:
        latest = self._entries.get(identity) or self._known_before().get(identity) or _NOTHING
        return self._signed(identity, replace(latest, state=DeliveryState.SENT, attempts=latest.attempts + 1))

    def _entry_of(self, delivery: Delivery) -> Entry:
        latest = self._entries.get(delivery.identity) or self._known_before().get(delivery.identity) or _NOTHING
        return Entry(
            state=delivery.state,
            status=delivery.status,
            message=delivery.message,
            comment=delivery.comment,
            time=_now(),
            task=self._task,
            attempts=latest.attempts,
            digest=self._digests.get(delivery.identity),
        )

    def _signed(self, identity: str, entry: Entry) -> Entry:
        return replace(entry, time=_now(), task=self._task, digest=self._digests.get(identity))

    def _judged_again(self, delivery: Delivery) -> Delivery:
        """A refusal as a duplicate after an attempt without an answer means that the attempt had arrived."""
        if delivery.status != _DUPLICATE or delivery.identity not in self._unanswered:
            return delivery
        message = "there already from an earlier attempt that was not answered"
        return replace(delivery, state=DeliveryState.ACCEPTED, message=message, retry=False)

    def _write(self, identity: str) -> None:
        """Enter the latest news, unless another task has had the same content accepted meanwhile."""
        entry = self._entries[identity]
        there = self._ledger.written(identity) if entry.state is not DeliveryState.ACCEPTED else None
        if there is not None and there.state is DeliveryState.ACCEPTED and there.digest == entry.digest:
            self._entries[identity] = there
        else:
            self._enter(identity, entry)
        self._unwritten.discard(identity)

    def _enter(self, identity: str, entry: Entry) -> None:
        """Write the entry beside the sending, few behind it; what an earlier write raised is raised here."""
        while self._entering and (self._entering[0].done() or len(self._entering) >= _BEHIND):
            self._entering.popleft().result()
        self._entering.append(self._enterer.submit(self._ledger.write, identity, entry, False))

    def _write_late_acceptance(self, identity: str) -> None:
        """Enter for the task's newer try that the far side has the instance, unless it has found so by itself."""
        there = self._ledger.written(identity)
        if self._entries[identity].state is DeliveryState.ACCEPTED and (
            there is None or there.state is not DeliveryState.ACCEPTED
        ):
            self._write(identity)

    def _complete(self) -> list[str]:
        """The open batches of which every instance has its verdict."""
        entered = self._entries.keys() - self._unwritten
        return [name for name, batch in self._open.items() if batch.keys() <= entered]

    def _close(self, names: Iterable[str]) -> None:
        """Write the batches once more, beside the sending, with what became of the instances that were sent."""
        for name in names:
            batch = {key: self._entries[key] for key in self._open.pop(name) if key in self._entries}
            self._closing.append(self._writer.submit(self._ledger.write_batch, name, batch))

    def _unsent(self) -> list[str]:
        """What is in a batch but was never sent to the far side, which was reached."""
        if not self.attempts:
            return []
        return [name for name in self._ahead if name not in self._entries and name not in self._known_before()]

    def _finish(self) -> None:
        """Enter what has no verdict, or was not sent at all, and close all batches."""
        unsent = self._unsent()
        if self._unwritten or unsent:
            self._before_request()
        for identity in list(self._unwritten):
            self._write(identity)
        for identity in unsent:
            self._enter(identity, self._signed(identity, _NOTHING))
        self._close(list(self._open))
        for writing in (*self._entering, *self._closing):
            writing.result()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
