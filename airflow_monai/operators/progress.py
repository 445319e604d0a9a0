"""Show how far an application is while it runs: in Airflow's UI and, for other readers, in the store.

Airflow has a place for what a running task wants to be seen: the task state store, which the task's page shows in a
tab of its own and refreshes. A thread writes there, at most every few seconds: that Airflow's API is away for a while
must not keep the task from looking after its application.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_monai.maps.progress import Progress

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_monai.tasks.run import TaskRun

KEY = "progress"
"""Of the task state store, and the name of the note in the store: ``g<N>.progress.json``."""
FIRST_SECONDS = 2.0
"""What takes no longer than this is over before anybody looks."""
EVERY_SECONDS = 5.0
PATIENCE_SECONDS = 1.0
"""How long the end of a task waits for the last word to be written."""

Publish = Callable[[Mapping[str, Any]], None]


class Board:
    """Publishes the latest progress now and then, in a thread of its own.

    :param publish: writes it; what it raises is passed over, and the next one is tried again.
    """

    def __init__(self, publish: Publish, *, first: float | None = None, every: float | None = None):
        self._publish = publish
        self._pauses = (FIRST_SECONDS if first is None else first, EVERY_SECONDS if every is None else every)
        self._latest: Progress | None = None
        self._shown: Progress | None = None
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def show(self, progress: Progress) -> None:
        self._latest = progress
        self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Publish the last word, if any word has been published."""
        self._ended.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_SECONDS)

    def _work(self) -> None:
        pause, every = self._pauses
        while not self._ended.wait(pause):
            self._news.wait()
            self._news.clear()
            self._put_up()
            pause = every
        if self._shown is not None:
            self._put_up()

    def _put_up(self) -> None:
        latest = self._latest
        if latest is None or latest == self._shown:
            return
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with contextlib.suppress(Exception):  # it is only news; the next comes soon
            self._publish({**latest.to_dict(), "at": at})
            self._shown = latest


@contextlib.contextmanager
def progress_board(run: TaskRun, context: Context, log: Any) -> Iterator[Board]:
    """A board for one try of a task.

    :param log: of the task; it is told how far an application is where the application's own lines are not shown.
    """
    from airflow_monai import settings

    store = context.get("task_state_store")
    is_told = settings.load().task_log != "filtered"

    def publish(facts: Mapping[str, Any]) -> None:
        if run.fence.is_taken_over():
            return
        run.write_note(KEY, facts)
        if is_told and "percent" in facts:
            log.info("Progress: %s", Progress(facts["percent"], facts.get("stage", "")))
        if store is not None:
            store.set(KEY, dict(facts))

    board = Board(publish)
    try:
        yield board
    finally:
        board.close()
