"""Has a destination that accepted something get it once more, because a person wants it: it has lost it, say."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
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
REASON_WARNING = (
    "NAME NO PATIENT HERE, and nothing by which one could be known: Airflow keeps this text in its own database, as a "
    "note of the tasks, and shows it in its UI."
)
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
Wanted = Mapping[str, Mapping[str, int]]
"""What is to be sent again, as the ledger had it then: task that delivered it -> identity -> requests so far."""


class NothingToSend(InvalidArgument):
    """The destination has accepted nothing of it, or nothing was to go there."""


@dataclass(frozen=True, slots=True)
class Resendable:
    """What a destination has accepted of a payload, or is to get again already.

    :param entries: identity at the destination -> what the ledger knows.
    :param wanted: the same as it was when it was wanted first; what has had more requests since was sent again.
    """

    ledger: Ledger
    entries: Mapping[str, Entry]
    wanted: Wanted

    @property
    def tasks(self) -> list[ExportTask]:
        """Those that delivered it, whose next try sends it again; never none."""
        return [task for name in sorted(self.wanted) if (task := ExportTask.of(name))]

    @property
    def objects(self) -> int:
        return sum(map(len, self.wanted.values()))

    @property
    def unmarked(self) -> dict[ExportTask, list[str]]:
        """What :meth:`mark` is going to mark, by the task that delivered it."""
        found: dict[ExportTask, list[str]] = {}
        for task in self.tasks:
            for name, requests in self.wanted[str(task)].items():
                entry = self.entries.get(name)
                if entry is not None and not entry.again and entry.attempts <= requests:
                    found.setdefault(task, []).append(name)
        return found

    def mark(self, why: str) -> int:
        """Enter that all of it is to be sent once more; durable when this returns, and harmless when done twice, also
        by another at the same time, or after it was sent: more requests count more than a mark of before.

        :param why: for the ledger; names no patient.
        :return: how many were not marked yet.
        """
        names = [name for some in self.unmarked.values() for name in some]
        for start in range(0, len(names), _PAGE):
            page = {name: _again(self.entries[name], why) for name in names[start : start + _PAGE]}
            self.ledger.write_page(uuid.uuid4().hex, page)
        return len(names)

    def clear(self, clear: Clear, why: str) -> Iterator[tuple[ExportTask, Cleared]]:
        """Have the tasks that delivered it run once more, but for those that have sent it since. It is marked before:
        whatever ends this, their next tries send it."""
        marked = {name for name, entry in self.ledger.entries() if entry.again}
        for task in self.tasks:
            if marked.isdisjoint(self.wanted[str(task)]):
                yield task, Cleared.SENT
            else:
                yield task, clear(task, f"Sends to {self.ledger.sink} again what it had accepted: {why}.")


def why_again(who: str, reason: str = "") -> str:
    """For the ledger, and for the note of the tasks, which Airflow keeps in its database and shows.

    :param reason: what a person says; names no patient (:data:`REASON_WARNING`).
    """
    reason = " ".join(reason.split())[:MAX_REASON]
    return f"wanted again by {who or 'somebody'}{f': {reason}' if reason else ''}"


def resendable_of(store: Store, payload_id: str, sink: str, task: str = "") -> Resendable:
    """What a destination has accepted of a payload.

    :param task: only what a task of this id delivered; empty for all.
    :raises InvalidArgument: when there is nothing to send again, with the reason; it names the other destinations.
    """
    _check_is_there(store, payload_id)
    there = sorted(store.children(payload_key(payload_id, "exports")))
    if safe_name(sink) not in there:
        names = ", ".join(there) or "none"
        raise NothingToSend(f"Nothing of this payload was to go to a destination {sink!r}. There are: {names}.")
    return resendable(Ledger(store, payload_id, sink), task)


def resendable(ledger: Ledger, task: str = "") -> Resendable:
    """
    :param task: only what a task of this id delivered; empty for all.
    :raises NothingToSend: when there is nothing.
    """
    found = {
        name: entry
        for name, entry in ledger.entries()
        if (entry.state is DeliveryState.ACCEPTED or entry.again) and _is_of(entry, task)
    }
    if not found:
        by = f" of what task {task!r} delivered" if task else ""
        raise NothingToSend(
            f"{ledger.sink} has accepted nothing of this payload{by}. What is not accepted is sent by the export "
            "task's next try: clear it in Airflow."
        )
    wanted: dict[str, dict[str, int]] = {}
    for name, entry in found.items():
        wanted.setdefault(entry.task, {})[name] = entry.attempts
    return Resendable(ledger, found, wanted)


def wanted_before(store: Store, payload_id: str, sink: str, wanted: Wanted) -> Resendable:
    """What is left of a wish that somebody began to see to.

    :raises InvalidArgument: when the payload is gone since.
    """
    _check_is_there(store, payload_id)
    ledger = Ledger(store, payload_id, sink)
    return Resendable(ledger, ledger.known({name for objects in wanted.values() for name in objects}), wanted)


def dags_by_destination(store: Store, payload_id: str) -> dict[str, set[str]]:
    """Destination, as the store calls it -> the DAGs whose tasks deliver something of the payload there."""
    found: dict[str, set[str]] = {}
    for sink in sorted(store.children(payload_key(payload_id, "exports"))):
        tasks = (ExportTask.of(entry.task) for _, entry in Ledger(store, payload_id, sink).entries())
        dag_ids = {task.dag_id for task in tasks if task is not None}
        if dag_ids:
            found[sink] = dag_ids
    return found


def _check_is_there(store: Store, payload_id: str) -> None:
    if is_doomed(store, payload_id):
        raise InvalidArgument(f"Payload {payload_id} was deleted, or is being deleted.")


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
