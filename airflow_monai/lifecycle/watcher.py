"""Looks at what has changed in Airflow since the last look, and adds what follows from it to the journal."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from airflow_monai.errors import DamagedObject, StoreError
from airflow_monai.lifecycle.happening import Happening
from airflow_monai.lifecycle.journal import Journal, Known
from airflow_monai.lifecycle.observed import RunSeen, TaskSeen, Watched
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.requests import correlation_of, correlation_of_run
from airflow_monai.store.runs import RunFolder
from airflow_monai.store.shapes import moment
from airflow_monai.types import TaskStatus

CURSOR = "lifecycle/cursor.json"
OVERLAP = timedelta(seconds=10)
"""How far each look goes back: a change is stamped before it is committed, by the clock of whoever makes it."""
DEEP_OVERLAP = timedelta(minutes=5)
"""The same, once in :data:`DEEP_EVERY` seconds, for runs: what a long transaction or a wrong clock has hidden."""
DEEP_EVERY = 60.0
STILL_ACTIVE = 30.0
"""So many seconds after the last change of a run its tasks are looked at too, and then each so many."""
_NOTE_EVERY = 10.0
_OLD = timedelta(hours=1)
AT_ONCE = timedelta(hours=1)
"""Of a longer time in which nobody looked each look takes up so much."""
_KEPT_DAYS = timedelta(days=7)
_STILL_KNOWN = timedelta(days=6)
_AT_A_TIME = 100
_JUDGES = frozenset({"ClinicalReviewOperator"})
"""Operators of tasks that may end well and say no."""


class Watcher:
    """For one thread.

    :param clock: seconds that only grow.
    :ivar is_behind: the last look has not come to what happens now.
    """

    def __init__(self, store: Store, journal: Journal, airflow: Watched, clock: Callable[[], float] = time.monotonic):
        self._store = store
        self._journal = journal
        self._airflow = airflow
        self._clock = clock
        self.known = Known(store, journal)
        self.is_behind = False
        self._cursor: datetime | None = None
        self._began_at: datetime | None = None
        self._tasks_from: datetime | None = None
        self._noted_at = self._deep_at = self._pruned_at = clock()
        self._active_at = clock()
        self._looked_at_tasks = clock() - STILL_ACTIVE

    def begin(self, since: datetime) -> None:
        """Look at nothing that is older, unless an earlier look went on from there.

        :param since: from when on somebody wants to know.
        """
        noted = self._noted_cursor()
        self._began_at = self._cursor = self._tasks_from = max(noted, since) if noted else since

    def look(self) -> int:
        """Look once; how many events were added to the journal.

        :raises AirflowAway: when Airflow does not answer, and :class:`StoreError` when the store does not; the next
            look begins where this one did.
        """
        assert self._cursor is not None and self._tasks_from is not None, "begin was not called"
        began, until = self._clock(), self._cursor + AT_ONCE
        is_deep = began - self._deep_at >= DEEP_EVERY
        changed = self._airflow.runs_changed(self._cursor - (DEEP_OVERLAP if is_deep else OVERLAP), until)
        is_behind = changed.now > until
        if changed.runs:
            self._active_at = began
        active = is_behind or began - self._active_at < STILL_ACTIVE
        tasks: list[TaskSeen] = []
        looks_at_tasks = active or began - self._looked_at_tasks >= STILL_ACTIVE
        if looks_at_tasks:
            tasks = list(self._airflow.tasks_changed(self._tasks_from - OVERLAP, until))
            if tasks:
                self._active_at = began
        added = self._tell(changed.runs, tasks)
        # nothing counts as looked at before what follows from it is in the journal
        self.is_behind, self._cursor = is_behind, min(changed.now, until)
        if is_deep:
            self._deep_at = began
        if looks_at_tasks:
            self._looked_at_tasks, self._tasks_from = began, self._cursor
        if began - self._noted_at >= _NOTE_EVERY:
            self._note()
        return added

    def stop(self) -> None:
        """Note how far it came."""
        if self._cursor is not None:
            self._note()

    def prune(self, below: int) -> None:
        """Remove what is a week old and has been told to everybody.

        :param below: number of the first batch that somebody still needs.
        """
        if self._clock() - self._pruned_at < 600:
            return
        self._pruned_at = self._clock()
        limit = _text(datetime.now(timezone.utc) - _KEPT_DAYS)
        self.known.note()
        self.known.forget(self._journal.forget_before(below, lambda event: event.at < limit))

    def _tell(self, runs: Iterable[RunSeen], tasks: Iterable[TaskSeen]) -> int:
        """Many instances in one batch, but not so many that a kill loses much work."""
        seen = {run.instance_id: run for run in runs}
        of_instance: dict[str, list[TaskSeen]] = defaultdict(list)
        for task in tasks:
            of_instance[task.instance_id].append(task)
        self.known.catch_up()
        looks: list[tuple[RunSeen, list[TaskSeen]]] = []
        for instance_id in dict.fromkeys((*seen, *of_instance)):
            look = self._look_of(seen.get(instance_id), of_instance.get(instance_id, []))
            if look is not None:
                looks.append(look)
        added = 0
        for first in range(0, len(looks), _AT_A_TIME):
            part = looks[first : first + _AT_A_TIME]
            added += len(self.known.add(lambda: self._follows(part)))  # noqa: B023 - it is used up at once
        return added

    def _look_of(self, run: RunSeen | None, tasks: list[TaskSeen]) -> tuple[RunSeen, list[TaskSeen]] | None:
        """A run with the tasks to be told of; None where nothing can be new."""
        if run is None:
            run = self._run_of(tasks)
        if run is None or run.state == "queued":
            return None
        chronicle = self.known.chronicle(run.instance_id)
        if not run.has_ended:
            return run, self._judged(run, tasks)
        if chronicle is None and self._is_old(run):
            return None  # it ended long before anybody wanted to know; only a note of it, say, has changed
        if chronicle is not None and (chronicle.began, chronicle.completed) == (run.began, run.state):
            return None
        return run, self._judged(run, self._airflow.tasks_of(run.dag_id, run.run_id))

    def _judged(self, run: RunSeen, tasks: Iterable[TaskSeen]) -> list[TaskSeen]:
        """The tasks, with what only their records say."""
        return [replace(task, says_no=True) if self._says_no(run, task) else task for task in tasks]

    def _says_no(self, run: RunSeen, task: TaskSeen) -> bool:
        if task.operator not in _JUDGES or task.state != "success":
            return False
        try:
            record = RunFolder(self._store, run.payload_id, run.dag_id, run.run_id).record(task.task_id, task.map_index)
        except StoreError:  # of a payload that was deleted meanwhile, say
            return False
        return record is not None and record.status is TaskStatus.PARTIAL_FAIL

    def _run_of(self, tasks: list[TaskSeen]) -> RunSeen | None:
        """The run of tasks that changed while it did not itself."""
        task = tasks[0]
        chronicle = self.known.chronicle(task.instance_id)
        if chronicle is not None and not _may_be_new(tasks, chronicle.tasks):
            return None
        return self._airflow.run(task.dag_id, task.run_id)

    def _is_old(self, run: RunSeen) -> bool:
        """What ended since it began to look is not, also when it was changed much later; but what was told is forgotten
        after a week."""
        assert self._cursor is not None and self._began_at is not None
        return bool(run.ended) and run.ended < _text(max(self._began_at - _OLD, self._cursor - _STILL_KNOWN))

    def _follows(self, looks: list[tuple[RunSeen, list[TaskSeen]]]) -> list[Happening]:
        from airflow_monai.lifecycle.chronicle import Chronicle

        now = _text(datetime.now(timezone.utc))
        found: list[Happening] = []
        for run, tasks in looks:
            chronicle = self.known.chronicle(run.instance_id) or Chronicle(run.instance_id)
            found += chronicle.after(run, tasks, now, self._correlation_id(run))
        return found

    def _correlation_id(self, run: RunSeen) -> str:
        names = run.payload_id, run.dag_id, run.run_id, run.started
        try:
            return correlation_of(self._store, *names)
        except DamagedObject as error:  # what happens to others is told, and this too, as if nobody had asked for it
            tell_once(str(error))
            return correlation_of_run(*names)

    def _note(self) -> None:
        assert self._cursor is not None
        self._noted_at = self._clock()
        self.known.note()
        at = min(self._cursor, self._tasks_from or self._cursor)
        self._store.write_json(CURSOR, {"at": _text(at)}, durable=False)

    def _noted_cursor(self) -> datetime | None:
        if not self._store.exists(CURSOR):
            return None
        try:
            return self._store.read_as(CURSOR, lambda data: moment(data["at"]))
        except DamagedObject as error:  # after a power cut: it begins where somebody first wanted to know
            tell_once(str(error))
            return None


def _may_be_new(tasks: Iterable[TaskSeen], known: dict) -> bool:
    """Whether any of the tasks is not as it is known to be; heartbeats change a task too."""
    for task in tasks:
        one = known.get(f"{task.task_id}#{task.map_index}")
        if one is None:
            if task.has_begun or task.state in ("success", "failed"):
                return True
        elif task.try_number > one.last_try and task.has_begun:
            return True
        elif one.state != task.state and (task.has_ended or f"{task.try_number}:{task.state}" not in one.told):
            if task.has_ended or task.has_begun:
                return True
        elif task.try_number == 0 and task.started > one.began:
            return True
    return False


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")
