"""The ledger of an export: what became of each instance at each sink, one object an instance in the store.

    payloads/<payload id>/exports/<sink>/<identity>.json

An entry says ``sent`` before the request goes out and the verdict after it. Whoever finds ``sent`` later knows that a
process ended between the two: the instance is sent again, which is harmless where its name decides (C-STORE of the same
SOP Instance UID).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from airflow_monai.errors import StoreError
from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import payload_key

AHEAD = 16
"""How many instances are entered as ``sent`` before their turn, so that sending need not wait for the store."""
_WRITERS = 4
_DUPLICATE = "0111"  # Duplicate SOP Instance (PS3.7 section C.5.8)


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
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        return cls(**{**data, "state": DeliveryState(data["state"])})


@dataclass(frozen=True, slots=True)
class Ledger:
    """The entries of one payload at one sink."""

    store: Store
    payload_id: str
    sink: str

    def key(self, identity: str) -> str:
        return payload_key(self.payload_id, "exports", safe_name(self.sink), f"{safe_name(identity)}.json")

    def entry(self, identity: str) -> Entry | None:
        """What is known of an instance, None when it was never sent."""
        key = self.key(identity)
        if not self.store.exists(key):
            return None
        try:
            return Entry.from_dict(self.store.read_json(key))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The ledger entry {key} is damaged: {error}.") from error

    def write(self, identity: str, entry: Entry) -> None:
        self.store.write_json(self.key(identity), entry.to_dict())

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """(identity, entry) of everything that was ever sent there."""
        for name in self.store.children(payload_key(self.payload_id, "exports", safe_name(self.sink))):
            identity = name.removesuffix(".json")
            entry = self.entry(identity)
            if entry is not None:
                yield identity, entry


class Recorder:
    """Enters the news of a sending into the ledger, without slowing it down.

    Use it as a context: when that ends, all entries are in the store. ``verdicts`` then holds the latest news of each
    instance, and ``attempts`` the requests of this try.

    :param digests: identity -> digest of what is to be sent, in the order of sending.
    :param task: for the entries, see :class:`Entry`.
    :param before_request: called before each request; what it raises ends the sending.
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
        self._order: Sequence[str] = list(digests)
        self._position = {identity: index for index, identity in enumerate(self._order)}
        self._task = task
        self._before_request = before_request
        self._entries: dict[str, Entry] = {}
        self._ahead: set[str] = set()  # entered as sent, but not sent yet
        self._unanswered: set[str] = set()  # were sent before, and nobody knows what became of it
        self._ahead_to = 0
        self._writes: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="ledger")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for identity in self._ahead:
            entry = self._entries[identity]
            self._write(identity, replace(entry, state=DeliveryState.PENDING, attempts=entry.attempts - 1))
        self._pool.shutdown(wait=True)
        if kind is None:
            for write in self._writes.values():
                write.result()

    def __call__(self, delivery: Delivery) -> None:
        """Take the news; this is the ``on_result`` of :meth:`airflow_monai.sinks.base.Sink.send`."""
        if delivery.state is DeliveryState.SENT:
            self._before_request()
            self._enter_sent(delivery.identity)
            self.attempts += 1
            return
        delivery = self._judged_again(delivery)
        self.verdicts[delivery.identity] = delivery
        self._write(delivery.identity, self._entry_of(delivery))

    def _enter_sent(self, identity: str) -> None:
        """Return when the store holds ``sent`` for this instance, with the entries of the next ones on their way."""
        if identity in self._ahead:
            self._ahead.discard(identity)
        else:
            self._mark(identity)
        start = self._position[identity] + 1
        for following in self._order[max(start, self._ahead_to) : start + AHEAD]:
            self._mark(following)
            self._ahead.add(following)
        self._ahead_to = max(self._ahead_to, start + AHEAD)
        self._writes[identity].result()

    def _mark(self, identity: str) -> None:
        known = self._entries.get(identity) or self._ledger.entry(identity) or Entry(DeliveryState.PENDING)
        if known.state in (DeliveryState.SENT, DeliveryState.UNKNOWN):
            self._unanswered.add(identity)
        self._write(identity, replace(known, state=DeliveryState.SENT, attempts=known.attempts + 1))

    def _entry_of(self, delivery: Delivery) -> Entry:
        known = self._entries.get(delivery.identity) or self._ledger.entry(delivery.identity)
        return Entry(
            state=delivery.state,
            status=delivery.status,
            message=delivery.message,
            comment=delivery.comment,
            attempts=known.attempts if known else 0,
        )

    def _judged_again(self, delivery: Delivery) -> Delivery:
        """A refusal as a duplicate after an attempt without an answer means that the attempt had arrived."""
        if delivery.status != _DUPLICATE or delivery.identity not in self._unanswered:
            return delivery
        message = "there already from an earlier attempt that was not answered"
        return replace(delivery, state=DeliveryState.ACCEPTED, message=message, retry=False)

    def _write(self, identity: str, entry: Entry) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        entry = replace(entry, time=now, task=self._task, digest=self._digests.get(identity))
        self._entries[identity] = entry
        earlier = self._writes.get(identity)
        if earlier is not None:
            earlier.result()  # entries of one instance are written in order
        self._writes[identity] = self._pool.submit(self._ledger.write, identity, entry)
