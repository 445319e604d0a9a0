"""Enters the news of one sending into the ledger."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timezone
from itertools import islice
from types import TracebackType

from airflow_monai.errors import Fenced, MonaiError
from airflow_monai.sinks.base import Delivery, DeliveryState
from airflow_monai.sinks.ledger.page_writer import OpenPage, PageWriter
from airflow_monai.sinks.ledger.pages import NOTHING, Entry, Ledger

AHEAD = 128
"""How many instances make a page."""
_DUPLICATE = "0111"  # Duplicate SOP Instance (PS3.7 section C.5.8)


class Recorder:
    """Enters the news of a sending into the ledger, without slowing it down; its threads may be many.

    Use it as a context: when that ends, all verdicts are durable. ``verdicts`` then holds the latest news of each
    instance, ``latest`` the entries, and ``attempts`` the requests of this sending.

    :param digests: identity -> digest of what is to be sent, in the order of sending.
    :param task: for the entries, see :class:`Entry`.
    :param before_request: called before each request and before each entry; what it raises ends the sending, so that a
        process that another has replaced neither sends nor writes (but for an acceptance that is news).
    :param known: what the ledger knows of them, where that is at hand.
    """

    def __init__(
        self,
        ledger: Ledger,
        digests: Mapping[str, str | None],
        *,
        task: str,
        before_request: Callable[[], None],
        known: Mapping[str, Entry] | None = None,
    ):
        self.verdicts: dict[str, Delivery] = {}
        self.attempts = 0
        self._ledger = ledger
        self._digests = digests
        self._task = task
        self._before_request = before_request
        self.latest = dict(ledger.known(digests) if known is None else known)
        self._known_before = frozenset(self.latest)
        self._following = iter(digests)
        self._announced: set[str] = set()
        self._lock = threading.RLock()
        self._pages: dict[str, OpenPage] = {}
        self._page_of: dict[str, OpenPage] = {}
        self._ahead: dict[str, Entry] = {}  # on a page, not sent yet: their entry when they are
        self._unanswered: set[str] = set()  # were sent before, and nobody knows what became of it
        self._closing: list[Future[None]] = []
        self._writer = PageWriter(ledger)

    def __enter__(self) -> Recorder:
        self._announce(self._next_ones())  # is in the store while the sink still calls the far side
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            try:
                self._close_all()
            finally:
                self._writer.finish()
        except MonaiError:
            if kind is None:
                raise
            # the open pages stay as they are, so that the next try takes for sent what was not entered

    def __call__(self, delivery: Delivery) -> None:
        """Take the news; this is the ``on_result`` of :meth:`airflow_monai.sinks.base.Sink.send`."""
        if delivery.state is not DeliveryState.SENT:
            self._judged(delivery)
            return
        self._before_request()
        with self._lock:
            self._writer.check()
            written = self._sending(delivery.identity)
            self.attempts += 1
        written.result()

    def _sending(self, identity: str) -> Future[None]:
        """Done when the store holds that this instance is being sent; the next page is on its way by then."""
        if identity in self._page_of and identity not in self._ahead:
            page = self._page_of[identity]
            page.entries[identity] = self.latest[identity] = self._next_attempt(identity)
            page.waiting.add(identity)
            return self._writer.news(page)
        if identity not in self._ahead:
            self._announce([identity, *self._next_ones()])
        self.latest[identity] = self._ahead.pop(identity)
        if len(self._ahead) == AHEAD // 2:
            self._announce(self._next_ones())
        return self._page_of[identity].durable

    def _next_ones(self) -> list[str]:
        return list(islice((name for name in self._following if name not in self._announced), AHEAD))

    def _announce(self, identities: Sequence[str]) -> None:
        """Open a page with what these are when they are sent."""
        if not identities:
            return
        entries = {name: self._next_attempt(name) for name in dict.fromkeys(identities)}
        name = uuid.uuid4().hex
        page = OpenPage(name, entries, self._writer.open(name, dict(entries)), set(entries))
        self._pages[name] = page
        self._page_of.update(dict.fromkeys(entries, page))
        self._announced.update(entries)
        self._ahead.update(entries)

    def _next_attempt(self, identity: str) -> Entry:
        latest, digest = self.latest.get(identity, NOTHING), self._digests.get(identity)
        there = latest.may_be_there or latest.state is DeliveryState.ACCEPTED
        mixed = latest.mixed or (there and latest.digest != digest)
        if latest.may_be_there and not mixed:
            self._unanswered.add(identity)
        return Entry(
            DeliveryState.SENT,
            time=_now(),
            task=self._task,
            attempts=latest.attempts + 1,
            digest=digest,
            mixed=mixed,
            missed=latest.missed,
            again=latest.again,
        )

    def _judged(self, delivery: Delivery) -> None:
        identity = delivery.identity
        with self._lock:
            delivery = self._judged_again(delivery)
            if identity not in self._page_of:
                self._announce([identity, *self._next_ones()])
            page = self._page_of[identity]
            if identity in self._ahead:  # a verdict without a request
                attempts = self.latest.get(identity, NOTHING).attempts
                self.latest[identity] = replace(self._ahead.pop(identity), attempts=attempts)
            self.verdicts[identity] = delivery
            page.entries[identity] = self.latest[identity] = self._entry_of(delivery)
        try:
            self._before_request()
        except Fenced:
            if delivery.state is DeliveryState.ACCEPTED:  # is news for the newer try, unless it has found so itself
                self._writer.news(page).result()
            raise
        with self._lock:
            self._writer.check()
            if not delivery.retry:
                page.waiting.discard(identity)
            if page.waiting:
                self._writer.touch(page)
            else:
                self._close(page, dict(page.entries))

    def _entry_of(self, delivery: Delivery) -> Entry:
        return _entry(delivery, self.latest[delivery.identity], self._digests.get(delivery.identity), self._task)

    def _judged_again(self, delivery: Delivery) -> Delivery:
        """What the far side cannot know: which content it has under the name.

        A refusal as a duplicate after an attempt without an answer means that the attempt had arrived. That an
        instance is there when asked for means nothing where other content was sent under its name before.
        """
        latest = self.latest.get(delivery.identity, NOTHING)
        if (latest.mixed or latest.again) and delivery.verified and not delivery.status:
            message = "not answered, and what is there may be what was sent before"
            return replace(delivery, state=DeliveryState.UNKNOWN, message=message, verified=False, retry=True)
        if delivery.status != _DUPLICATE or delivery.identity not in self._unanswered:
            return delivery
        message = "there already from an earlier attempt that was not answered"
        return replace(delivery, state=DeliveryState.ACCEPTED, message=message, retry=False)

    def _close(self, page: OpenPage, entries: Mapping[str, Entry]) -> None:
        del self._pages[page.name]
        for identity in page.entries:
            self._page_of.pop(identity, None)
        self._closing.append(self._writer.close(page, entries))

    def _close_all(self) -> None:
        """Close what is open; what was never sent is pending, or what it was before."""
        with self._lock:
            if self._pages and self.attempts:
                self._before_request()
            for page in list(self._pages.values()):
                self._close(page, dict(self._kept(page)))
        for closing in self._closing:
            closing.result()

    def _kept(self, page: OpenPage) -> Iterable[tuple[str, Entry]]:
        for identity, entry in page.entries.items():
            if identity not in self._ahead:
                yield identity, entry
            elif self.attempts and identity not in self._known_before:  # the far side was reached, and did not get it
                yield identity, replace(NOTHING, time=_now(), task=self._task, digest=entry.digest)


def enter(
    ledger: Ledger,
    news: Sequence[Delivery],
    digests: Mapping[str, str | None],
    *,
    task: str,
    known: Mapping[str, Entry],
) -> dict[str, Entry]:
    """Enter what was found out without sending anything, durable when this returns; the entries.

    :param known: what the ledger knows of them.
    """
    page = {
        delivery.identity: _entry(delivery, known.get(delivery.identity, NOTHING), digests.get(delivery.identity), task)
        for delivery in news
    }
    ledger.write_page(uuid.uuid4().hex, page)
    return page


def _entry(delivery: Delivery, latest: Entry, digest: str | None, task: str) -> Entry:
    accepted = delivery.state is DeliveryState.ACCEPTED
    was_accepted = latest.state is DeliveryState.ACCEPTED and latest.digest == digest
    return Entry(
        state=delivery.state,
        status=delivery.status,
        message=delivery.message,
        comment=delivery.comment,
        time=_now(),
        task=task,
        attempts=latest.attempts,
        digest=digest,
        mixed=latest.mixed and not accepted,
        verified=delivery.verified,
        missed=(latest.missed or was_accepted) and not accepted,
        again=latest.again and not accepted,
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
