"""Writes the ledger's pages beside the sending: what must be durable in order, and news whenever there is time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from airflow_monai.sinks.ledger.pages import Entry, Ledger, Page

NEWS_SECONDS = 0.1
"""News of so long may be lost with the process; each instance's own write would cost more than its sending."""


@dataclass(slots=True)
class OpenPage:
    """A page of which not every instance has its final verdict.

    :param entries: what is known now; replaced one by one, by the thread that holds the recorder's lock.
    :param durable: done when ``sent`` is in the store for all of them.
    """

    name: str
    entries: dict[str, Entry]
    durable: Future[None]
    waiting: set[str] = field(default_factory=set)


class PageWriter:
    """One thread that writes; what it could not write is raised by :meth:`check`, :meth:`finish` and the futures."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._wake = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._touched: dict[str, OpenPage] = {}
        self._ends = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def open(self, name: str, entries: Page) -> Future[None]:
        return self._submit(partial(self._ledger.write_page, name, entries))

    def close(self, page: OpenPage, entries: Page) -> Future[None]:
        """Write it for good; its news are written no more."""

        def close() -> None:
            with self._wake:
                self._touched.pop(page.name, None)
            self._ledger.close_page(page.name, entries)

        return self._submit(close)

    def news(self, page: OpenPage) -> Future[None]:
        """Write the page's news at once."""
        return self._submit(partial(self._write_news, page))

    def touch(self, page: OpenPage) -> None:
        """Write the page's news within a moment."""
        with self._wake:
            if page.name not in self._touched:
                self._touched[page.name] = page
                self._wake.notify()

    def check(self) -> None:
        """Raise what could not be written."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Write all that is left, and end; raises what could not be written."""
        with self._wake:
            self._ends = True
            self._wake.notify()
        self._thread.join()
        self.check()

    def _write_news(self, page: OpenPage) -> None:
        self._ledger.write_news(page.name, dict(page.entries))

    def _submit(self, work: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()
        with self._wake:
            self._jobs.append((work, done))
            self._wake.notify()
        return done

    def _run(self) -> None:
        news_at = 0.0
        while True:
            with self._wake:
                while not self._jobs:
                    wait = news_at - time.monotonic() if self._touched else None
                    if wait is not None and (wait <= 0 or self._ends):
                        break
                    if self._ends:
                        return
                    self._wake.wait(wait)
                job = self._jobs.popleft() if self._jobs else None
                touched = [] if job else list(self._touched.values())
                if job is None:
                    self._touched.clear()
            if job is not None:
                self._do(*job)
                continue
            for page in touched:
                self._do(partial(self._write_news, page), Future())
            news_at = time.monotonic() + NEWS_SECONDS

    def _do(self, work: Callable[[], None], done: Future[None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised to who waits or looks next; the thread lives on
            self._error = self._error or error
            done.set_exception(error)
        else:
            done.set_result(None)
