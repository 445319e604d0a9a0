"""Has a destination that accepted something get it once more, because a person wants it: it has lost it, say."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from airflow_monai.errors import InvalidArgument
from airflow_monai.sinks.base import DeliveryState
from airflow_monai.sinks.ledger.cleared import Cleared
from airflow_monai.sinks.ledger.pages import Entry, Ledger
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.payloads import payload_key

MAX_REASON = 200
_PAGE = 128


@dataclass(frozen=True, slots=True)
class ExportTask:
    """The task of a run that delivered something."""

    dag_id: str
    run_id: str
    task_id: str

    @classmethod
    def of(cls, text: str) -> ExportTask | None:
        """What the ledger calls ``<dag>/<run>/<task>``."""
        dag_id, _, rest = text.partition("/")
        run_id, _, task_id = rest.rpartition("/")
        return cls(dag_id, run_id, task_id) if dag_id and run_id and task_id else None

    def __str__(self) -> str:
        return f"{self.dag_id}/{self.run_id}/{self.task_id}"


Clear = Callable[[ExportTask, str], Cleared]
"""Has a task run once more; the text is shown with it."""


@dataclass(frozen=True, slots=True)
class Resendable:
    """What a destination has accepted of a payload, or is to get again already.

    :param entries: identity at the destination -> what the ledger knows.
    """

    ledger: Ledger
    entries: dict[str, Entry]

    @property
    def tasks(self) -> list[ExportTask]:
        """Those that delivered it, whose next try sends it again; never none."""
        found = (ExportTask.of(task) for task in sorted({entry.task for entry in self.entries.values()}))
        return [task for task in found if task is not None]

    def mark(self, why: str) -> int:
        """Enter that all of it is to be sent once more; durable when this returns, and harmless when done twice.

        :param why: for the ledger; names no patient.
        :return: how many were not marked yet.
        """
        new = {name: _again(entry, why) for name, entry in self.entries.items() if not entry.again}
        names = list(new)
        for start in range(0, len(names), _PAGE):
            page = {name: new[name] for name in names[start : start + _PAGE]}
            self.ledger.write_page(uuid.uuid4().hex, page)
        return len(new)

    def clear(self, clear: Clear, why: str) -> Iterator[tuple[ExportTask, Cleared]]:
        """Have the tasks that delivered it run once more. It is marked before: whatever ends this, their next tries
        send it."""
        for task in self.tasks:
            yield task, clear(task, f"Sends to {self.ledger.sink} again what it had accepted: {why}.")


def why_again(who: str, reason: str = "") -> str:
    """For the ledger, and to be shown with the tasks.

    :param reason: what a person says; names no patient.
    """
    reason = " ".join(reason.split())[:MAX_REASON]
    return f"wanted again by {who or 'somebody'}{f': {reason}' if reason else ''}"


def resendable_of(store: Store, payload_id: str, sink: str, task: str = "") -> Resendable:
    """What a destination has accepted of a payload.

    :param task: only what a task of this id delivered; empty for all.
    :raises InvalidArgument: when there is nothing to send again, with the reason.
    """
    if is_doomed(store, payload_id):
        raise InvalidArgument(f"Payload {payload_id} was deleted, or is being deleted.")
    there = sorted(store.children(payload_key(payload_id, "exports")))
    if safe_name(sink) not in there:
        names = ", ".join(there) or "none"
        raise InvalidArgument(f"Nothing of this payload was to go to a destination {sink!r}. There are: {names}.")
    return resendable(Ledger(store, payload_id, sink), task)


def resendable(ledger: Ledger, task: str = "") -> Resendable:
    """
    :param task: only what a task of this id delivered; empty for all.
    :raises InvalidArgument: when there is nothing.
    """
    found = {
        name: entry
        for name, entry in ledger.entries()
        if (entry.state is DeliveryState.ACCEPTED or entry.again) and _is_of(entry, task)
    }
    if not found:
        by = f" of what task {task!r} delivered" if task else ""
        raise InvalidArgument(
            f"{ledger.sink} has accepted nothing of this payload{by}. What is not accepted is sent by the export "
            "task's next try: clear it in Airflow."
        )
    return Resendable(ledger, found)


def _is_of(entry: Entry, task: str) -> bool:
    made_by = ExportTask.of(entry.task)
    return made_by is not None and task in ("", made_by.task_id)


def _again(entry: Entry, why: str) -> Entry:
    """Later than what it marks, whatever this host's clock says."""
    now = datetime.now(timezone.utc)
    if entry.time:
        now = max(now, datetime.fromisoformat(entry.time) + timedelta(milliseconds=1))
    time = now.isoformat(timespec="milliseconds")
    return replace(
        entry, state=DeliveryState.PENDING, status="", message=why, comment="", time=time, verified=False, again=True
    )
