"""The ledger of an export: what became of each instance at each sink, many instances an object in the store.

    payloads/<payload id>/exports/<sink>/<page>.json        what is about to be sent, and later what became of it
    payloads/<payload id>/exports/<sink>/<page>.news.json   what has become of it so far, while the page is open

A sending writes pages of its own and never another's, so that any number of tasks can write at once; what is known of
an instance is the latest entry of all pages. A page is in the store, durable, before the first request of its
instances, with ``sent`` for each of them. Its news follow within a moment, not flushed; when all have a verdict, the
page is written once more, durable, and the news are removed. So two durable objects do for many instances, also in a
bucket, where an object for each would cost more than its sending.

A killed process may take the news of its last moment with it, and a power cut all news of the open pages. These
instances are ``sent`` then: nobody knows what became of them. They are asked for or sent again, which is harmless where
the name decides (C-STORE of the same SOP Instance UID).
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_monai.errors import StoreError
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import payload_key

_NEWS = ".news.json"
UNANSWERED = (DeliveryState.SENT, DeliveryState.UNKNOWN)
"""States of which nobody knows whether the far side has the instance."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one instance at one sink.

    :param status: the far side's code; ``message`` its meaning; ``comment`` its own words, which may name a patient.
    :param time: of this entry; UTC, ISO 8601.
    :param task: ``<dag>/<run>/<task>`` that made it.
    :param attempts: requests so far, over all tasks and tries.
    :param digest: SHA-256 of what was sent, None for a received image.
    :param mixed: other content was sent under this name before, so that being asked for it proves nothing.
    :param verified: the far side was asked afterwards, and has it.
    :param missed: the far side had accepted it, was asked afterwards, and had it not; until it accepts it again.
    :param again: a person wants it sent once more, whatever the far side says that it has; until it accepts it again.
    """

    state: DeliveryState
    status: str = ""
    message: str = ""
    comment: str = ""
    time: str = ""
    task: str = ""
    attempts: int = 0
    digest: str | None = None
    mixed: bool = False
    verified: bool = False
    missed: bool = False
    again: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Its fields without those that say nothing."""
        said = {name: value for name in self.__slots__ if (value := getattr(self, name))}
        return {**said, "state": self.state.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        return cls(**{**data, "state": DeliveryState(data["state"])})

    @property
    def is_unanswered(self) -> bool:
        return self.state in UNANSWERED

    @property
    def may_be_there(self) -> bool:
        """Whether the far side has content under the name, as far as nobody can tell."""
        return self.is_unanswered or self.again


NOTHING = Entry(DeliveryState.PENDING)
Page = Mapping[str, Entry]
"""What is known of several instances, by identity."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The entries of one payload at one sink."""

    store: Store
    payload_id: str
    sink: str

    def key(self, *name: str) -> str:
        return payload_key(self.payload_id, "exports", safe_name(self.sink), *name)

    def entry(self, identity: str) -> Entry | None:
        """What is known of an instance, None when it was never sent."""
        return self.known([identity]).get(identity)

    def known(self, identities: Container[str]) -> dict[str, Entry]:
        """What is known of these instances; without those that were never sent."""
        return {identity: entry for identity, entry in self.entries() if identity in identities}

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """(identity, entry) of everything that was ever sent there, sorted."""
        latest: dict[str, Entry] = {}
        # the news first: where they are gone by then, the page that is read after them says the same
        for name in sorted(self.store.children(self.key()), key=lambda name: not name.endswith(_NEWS)):
            for identity, entry in self._page(name).items():
                latest[identity] = later(latest.get(identity), entry)
        yield from sorted(latest.items(), key=lambda item: item[0])

    def write_page(self, name: str, page: Page) -> None:
        """Enter several instances together, durable when this returns; an empty page is removed."""
        if page:
            self._write(f"{name}.json", page, durable=True)
        else:
            self.store.delete(self.key(f"{name}.json"))

    def write_news(self, name: str, page: Page) -> None:
        """Enter what has become of a page's instances; a power cut may take it."""
        self._write(f"{name}{_NEWS}", page, durable=False)

    def close_page(self, name: str, page: Page) -> None:
        """Write the page for good, durable when this returns."""
        self.write_page(name, page)
        self.store.delete(self.key(f"{name}{_NEWS}"))

    def _write(self, name: str, page: Page, durable: bool) -> None:
        self.store.write_json(self.key(name), {key: entry.to_dict() for key, entry in page.items()}, durable)

    def _page(self, name: str) -> Page:
        key = self.key(name)
        try:
            data = self.store.read(key)
        except StoreError:
            if self.store.exists(key):
                raise
            return {}  # removed a moment ago: the page itself says it now, see close_page
        try:
            return {identity: Entry.from_dict(fields) for identity, fields in json.loads(data).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if name.endswith(_NEWS):
                return {}  # a power cut took it, or a part of it; the page itself was flushed
            raise StoreError(f"The ledger page {key} is damaged: {error}.") from error


def later(one: Entry | None, other: Entry) -> Entry:
    """The later news of an instance: that of more requests, and the verdict rather than the request.

    What has been accepted stays so, whatever became of a request of the same content that was sent at the same time,
    unless it was missed since, or is wanted again.
    """
    if one is None:
        return other
    for accepted, entry in ((one, other), (other, one)):
        is_same = accepted.state is DeliveryState.ACCEPTED and accepted.digest == entry.digest
        if is_same and entry.state is not DeliveryState.ACCEPTED and not (entry.missed or entry.mixed or entry.again):
            return accepted
    return max(one, other, key=_age)


def _age(entry: Entry) -> tuple[int, bool, str, bool]:
    return entry.attempts, entry.state is not DeliveryState.SENT, entry.time, entry.verified


def unanswered(known: Mapping[str, Entry], digests: Mapping[str, str | None]) -> Iterable[str]:
    """Those of which nobody knows whether the far side has them, and of which only this content was ever sent."""
    for identity, digest in digests.items():
        entry = known.get(identity)
        if entry is None or not entry.is_unanswered or entry.digest != digest:
            continue
        if not (entry.mixed or entry.again):  # else being there proves nothing
            yield identity
