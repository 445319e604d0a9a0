"""The export tasks of a sink that is pulled from, in the store.

    pulls/<sink>/<task id>/task.json        what is to be exported; never changed
    pulls/<sink>/<task id>/take-<n>.json    the n-th client that has it, and until when; the last one counts
    pulls/<sink>/<task id>/report.json      what became of it; the first one counts
    pulls-open/<sink>/<when>~<task id>.json     exists until then: finished tasks cost no look, and names tell their age

A client that takes a task has it until its lease is over, then another may take it. Both may then have exported it,
which is why a client sends under the SOP Instance UIDs that it is given. Only who has it now can report.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from airflow_monai.errors import DamagedObject, InvalidArgument, MonaiError
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.giving import Waiting, begins_anew, give_answer, has_ended
from airflow_monai.store.shapes import moment

MAX_LEASE_SECONDS = 86_400.0
_TAKE = "take-"


class PullState(str, Enum):
    OPEN = "open"
    TAKEN = "taken"
    DONE = "done"
    GONE = "gone"
    """Its export task waits no more: it was ended or cleared, or its time is over."""


class NotYours(MonaiError):
    """Another client has the task now, or nobody has."""


class PullTaskUnknown(MonaiError):
    """There is no such export task."""


@dataclass(frozen=True, slots=True)
class PullFile:
    """A file to export.

    :param path: names it in reports; it is also its key in the store.
    :param size: bytes.
    """

    path: str
    name: str
    size: int
    sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class PullTask:
    """What is to be exported.

    :param task_id: a GUID, the same for all tries of the export task.
    :param destinations: as the client knows them.
    :param created: UTC, ISO 8601.
    :param waiting: the task that waits for the report; None where nobody does.
    """

    task_id: str
    sink: str
    workflow_instance_id: str
    payload_id: str
    dag_id: str
    run_id: str
    correlation_id: str
    destinations: tuple[str, ...]
    files: tuple[PullFile, ...]
    created: str
    waiting: Waiting | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PullTask:
        waiting = data.get("waiting")
        return cls(
            **{
                **data,
                "destinations": tuple(data["destinations"]),
                "files": tuple(PullFile(**item) for item in data["files"]),
                "waiting": Waiting(**waiting) if waiting else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Take:
    """That a client has a task.

    :param lease: a secret that only this client knows.
    :param until: UTC; after it another client may take the task.
    """

    client: str
    until: datetime
    lease: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a task.

    :param status: of the whole, as in the broker's ``ExportStatus``.
    :param files: path -> ``FileExportStatus``.
    :param message: the client's words, which may name a patient: for the ledger only.
    """

    status: str
    files: Mapping[str, str]
    message: str = ""
    client: str = ""
    time: str = ""


class PullTasks:
    """The export tasks of one sink. Any number of servers and workers may use it at once.

    :param now: UTC.
    """

    def __init__(self, store: Store, sink: str, now: Any = None):
        self._store = store
        self.sink = sink
        self._now = now or (lambda: datetime.now(timezone.utc))

    def ask(self, task: PullTask) -> None:
        """Have a task exported. Asking for it again changes nothing, also when it is done already."""
        if not self._store.create_json(self._key(task.task_id, "task.json"), task.to_dict()):
            task = self.task(task.task_id)
        if not self._store.exists(self._key(task.task_id, "report.json")):
            self._store.create_json(self._open_key(task), {"created": task.created})

    def task(self, task_id: str) -> PullTask:
        """:raises PullTaskUnknown: when there is none."""
        key = self._key(task_id, "task.json")
        if not self._store.exists(key):
            raise PullTaskUnknown(f"Sink {self.sink} has no export task {task_id!r}.")
        return self._store.read_as(key, PullTask.from_dict)

    def open_ones(self) -> Iterator[PullTask]:
        """Those that nobody has reported on, the oldest first; what nobody waits for any more is left out."""
        for name in sorted(self._store.children(f"pulls-open/{safe_name(self.sink)}")):
            try:
                task = self.task(name.removesuffix(".json").partition("~")[2])
                self._last(task.task_id)
                if self._drop_gone(task):
                    continue
            except (DamagedObject, PullTaskUnknown) as error:  # it keeps no other
                tell_once(f"The export task {name} of sink {self.sink} cannot be read: {error}")
                continue
            yield task

    def state(self, task: PullTask) -> PullState:
        if self._store.exists(self._key(task.task_id, "report.json")):
            return PullState.DONE
        if self._is_gone(task):
            return PullState.GONE
        take = self.holder(task)
        return PullState.TAKEN if take is not None else PullState.OPEN

    def holder(self, task: PullTask) -> Take | None:
        """Who has the task now."""
        take = self._last(task.task_id)[1]
        return take if take is not None and take.until > self._now() else None

    def take(self, client: str, count: int, seconds: float) -> list[tuple[PullTask, Take]]:
        """Take the oldest tasks that nobody has; fewer, or none, where there are no more.

        :param seconds: for so long they are this client's.
        """
        _check_lease(seconds)
        taken: list[tuple[PullTask, Take]] = []
        for task in self.open_ones():
            if len(taken) == count:
                break
            number, last = self._last(task.task_id)
            if last is not None and last.until > self._now():
                continue
            take = Take(client, self._now() + timedelta(seconds=seconds), secrets.token_urlsafe(24))
            if self._claim(task.task_id, number + 1, take):
                taken.append((task, take))
        return taken

    def renew(self, task: PullTask, lease: str, seconds: float) -> Take:
        """Keep a task for so long from now.

        :raises NotYours: when another client has it, or it is done.
        """
        _check_lease(seconds)
        number, take = self._mine(task, lease)
        renewed = replace(take, until=self._now() + timedelta(seconds=seconds))
        if not self._claim(task.task_id, number + 1, renewed):
            raise NotYours("Another client has taken the export task meanwhile.")
        return renewed

    def give_back(self, task: PullTask, lease: str) -> None:
        """Let others take it.

        :raises NotYours: as :meth:`renew`.
        """
        number, take = self._mine(task, lease)
        self._claim(task.task_id, number + 1, replace(take, until=self._now()))

    def report(self, task: PullTask, lease: str, report: Report) -> bool:
        """Enter what became of it, durable when this returns; False when that was known.

        A client whose lease is over can still report, as long as no other has taken the task.

        :raises NotYours: when another client has it.
        """
        key = self._key(task.task_id, "report.json")
        if self._store.exists(key):
            self._finish(task)
            return False
        take = self._last(task.task_id)[1]
        if take is None or not _same(take.lease, lease):
            raise NotYours("Another client has this export task now, or nobody has: take it first.")
        known = {file.path for file in task.files}
        unknown = sorted(set(report.files) - known)
        if unknown:
            raise InvalidArgument(f"The export task has no file {unknown[0]!r}.")
        named = replace(report, client=take.client, time=self._now().isoformat(timespec="seconds"))
        fresh = self._store.create_json(key, asdict(named))
        self._finish(task)
        return fresh

    def reported(self, task: PullTask) -> Report | None:
        key = self._key(task.task_id, "report.json")
        return self._store.read_as(key, _report) if self._store.exists(key) else None

    def hand_over(self, task_id: str) -> None:
        """Give a report that is there to who waits for it."""
        if self._store.exists(self._key(task_id, "report.json")):
            self._finish(self.task(task_id))

    def _finish(self, task: PullTask) -> None:
        """Give the report to who waits for it; done again it changes nothing."""
        report = self.reported(task)
        if report is not None and task.waiting is not None:
            body = {"status": report.status, "message": report.message, "files": dict(report.files)}
            give_answer(self._store, task.waiting, body)
        self._store.delete(self._open_key(task))

    def _is_gone(self, task: PullTask) -> bool:
        """A cleared export task asks for all anew: what it asked for before would be exported twice."""
        waiting = task.waiting
        return waiting is not None and (has_ended(self._store, waiting) or begins_anew(self._store, waiting))

    def _drop_gone(self, task: PullTask) -> bool:
        if self._store.exists(self._key(task.task_id, "report.json")):
            self._finish(task)  # whoever reported died before the end
            return True
        if self._is_gone(task):
            self._store.delete(self._open_key(task))
            return True
        return False

    def _mine(self, task: PullTask, lease: str) -> tuple[int, Take]:
        number, take = self._last(task.task_id)
        if self._store.exists(self._key(task.task_id, "report.json")):
            raise NotYours("The export task is done.")
        if take is None or not _same(take.lease, lease):
            raise NotYours("Another client has this export task now, or nobody has: take it first.")
        return number, take

    def _last(self, task_id: str) -> tuple[int, Take | None]:
        numbers = [
            int(name.removeprefix(_TAKE).removesuffix(".json"))
            for name in self._store.children(self._key(task_id))
            if name.startswith(_TAKE)
        ]
        if not numbers:
            return 0, None
        number = max(numbers)
        return number, self._store.read_as(self._key(task_id, f"{_TAKE}{number}.json"), _take)

    def _claim(self, task_id: str, number: int, take: Take) -> bool:
        data = {"client": take.client, "lease": take.lease, "until": take.until.isoformat()}
        return self._store.create_json(self._key(task_id, f"{_TAKE}{number}.json"), data)

    def _key(self, task_id: str, *parts: str) -> str:
        return "/".join(("pulls", safe_name(self.sink), safe_name(task_id), *parts))

    def _open_key(self, task: PullTask) -> str:
        when = re.sub(r"[^0-9]", "", task.created)[:17].ljust(17, "0")
        return f"pulls-open/{safe_name(self.sink)}/{when}~{safe_name(task.task_id)}.json"


def _report(data: Mapping[str, Any]) -> Report:
    return Report(**data)


def _take(data: Mapping[str, Any]) -> Take:
    return Take(data["client"], moment(data["until"]), data["lease"])


def _same(known: str, given: str) -> bool:
    return secrets.compare_digest(known.encode(), given.encode("utf-8", "surrogatepass"))


def _check_lease(seconds: float) -> None:
    if not 1 <= seconds <= MAX_LEASE_SECONDS:
        raise InvalidArgument(f"A lease lasts from 1 to {MAX_LEASE_SECONDS:g} seconds.")
