"""What is known to have happened to one workflow instance, and what follows from a new look at it.

The order is always: the workflow has started, then what happens to its tasks, then it has completed. What nobody saw
happen between two looks follows from the dates that Airflow keeps. A look older than what is known adds nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_monai.lifecycle.happening import Happening, What, happening_id, status_of
from airflow_monai.lifecycle.observed import RunSeen, TaskSeen
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskStatus

_CANCELED = "canceled"
"""State of a task that had not ended when its workflow did."""


@dataclass(slots=True)
class TaskKnown:
    """A task, in its latest going: from its start until it ends, whatever tries that takes.

    :param began: tells goings apart whose try number is 0.
    :param told: ``<try>:<state>`` of all updates.
    """

    first_try: int
    last_try: int
    began: str
    state: str
    is_open: bool = True
    told: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Chronicle:
    """
    :param began: of the latest going of the run; empty while none has begun.
    :param completed: the state that it ended in; empty while it goes on.
    """

    instance_id: str
    began: str = ""
    completed: str = ""
    tasks: dict[str, TaskKnown] = field(default_factory=dict)

    def apply(self, event: Happening) -> None:
        """Know that this has happened."""
        if event.what is What.WORKFLOW_STARTED:
            self.began, self.completed = event.run_began, ""
        elif event.what is What.WORKFLOW_COMPLETED:
            self.began, self.completed = event.run_began, event.state
        else:
            self._apply_to_task(event)

    def _apply_to_task(self, event: Happening) -> None:
        key = _key(event.task_id, event.map_index)
        if event.what is What.TASK_STARTED:
            self.tasks[key] = TaskKnown(event.first_try, event.try_number, event.started, event.state)
        known = self.tasks.get(key)
        if known is None:
            return
        known.last_try = max(known.last_try, event.try_number)
        known.state = event.state
        if event.what is What.TASK_COMPLETED:
            known.is_open = False
        else:
            known.told.append(f"{event.try_number}:{event.state}")

    def after(self, run: RunSeen, tasks: Iterable[TaskSeen], now: str, correlation_id: str) -> list[Happening]:
        """What has happened since, in order. Nothing is changed by asking.

        :param tasks: all of the run's own when it has ended, else those that changed.
        :param now: when it was looked, ISO 8601.
        """
        if run.state == "queued" or (self.began and run.began < self.began):
            return []
        return _Teller(copy.deepcopy(self), run, now, correlation_id).tell(tasks)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Chronicle:
        tasks = {key: TaskKnown(**value) for key, value in data["tasks"].items()}
        return cls(data["instance_id"], data["began"], data["completed"], tasks)


class _Teller:
    """Derives events; what it has told is in its chronicle."""

    def __init__(self, chronicle: Chronicle, run: RunSeen, now: str, correlation_id: str):
        self._known = chronicle
        self._run = run
        self._now = now
        self._correlation_id = correlation_id
        self._events: list[Happening] = []

    def tell(self, tasks: Iterable[TaskSeen]) -> list[Happening]:
        run, known = self._run, self._known
        if known.began != run.began:
            self._add(self._of_workflow(What.WORKFLOW_STARTED, "running"))
        elif known.completed == run.state:
            return []  # a run that has ended says no more of its tasks
        if not known.completed:
            self._tell_tasks(tasks)
        if run.has_ended and known.completed != run.state:
            self._add(self._of_workflow(What.WORKFLOW_COMPLETED, run.state))
        return self._events

    def _tell_tasks(self, tasks: Iterable[TaskSeen]) -> None:
        first = len(self._events)
        for task in sorted(tasks, key=lambda one: (one.started or one.ended or "~", one.task_id, one.map_index)):
            self._tell_task(task)
        if self._run.has_ended:
            for key, known in self._known.tasks.items():
                if known.is_open:
                    self._close(key, known)
        order = {What.TASK_STARTED: 0, What.TASK_UPDATED: 1, What.TASK_COMPLETED: 2}
        self._events[first:] = sorted(self._events[first:], key=lambda event: (event.at, order[event.what]))

    def _tell_task(self, task: TaskSeen) -> None:
        known = self._known.tasks.get(_key(task.task_id, task.map_index))
        if known is not None and known.is_open and task.try_number >= known.last_try:
            if task.has_ended:
                self._add(self._of_task(What.TASK_COMPLETED, task, known.first_try, task.state))
            elif task.has_begun and f"{task.try_number}:{task.state}" not in known.told:
                self._add(self._of_task(What.TASK_UPDATED, task, known.first_try, task.state))
        elif known is None or _is_later(task, known):
            self._tell_new(task)
        elif task.has_ended and task.try_number == known.last_try and task.state != known.state:
            self._add(self._of_task(What.TASK_COMPLETED, task, known.first_try, task.state))  # a person set it

    def _tell_new(self, task: TaskSeen) -> None:
        """A going that nothing is known of; a task that was only passed over has none."""
        if not (task.has_begun or task.state in ("success", "failed")):
            return
        self._add(self._of_task(What.TASK_STARTED, task, task.try_number, "running"))
        if task.has_ended:
            self._add(self._of_task(What.TASK_COMPLETED, task, task.try_number, task.state))
        elif task.state != "running":
            self._add(self._of_task(What.TASK_UPDATED, task, task.try_number, task.state))

    def _close(self, key: str, known: TaskKnown) -> None:
        task_id, _, index = key.rpartition("#")
        run = self._run
        task = TaskSeen(
            run.dag_id, run.run_id, task_id, int(index), _CANCELED, known.last_try, known.began, run.ended or self._now
        )
        self._add(self._of_task(What.TASK_COMPLETED, task, known.first_try, _CANCELED))

    def _add(self, event: Happening) -> None:
        self._events.append(event)
        self._known.apply(event)

    def _of_workflow(self, what: What, state: str) -> Happening:
        run = self._run
        has_ended = what is What.WORKFLOW_COMPLETED
        return self._event(
            what,
            (run.began, state),
            at=(run.ended if has_ended else run.began) or self._now,
            state=state,
            cancelled=has_ended and run.cancelled,
            started=run.began,
            ended=(run.ended or self._now) if has_ended else "",
        )

    def _of_task(self, what: What, task: TaskSeen, first_try: int, state: str) -> Happening:
        run = self._run
        started = task.started or task.ended or self._now
        ended = (task.ended or self._now) if what is What.TASK_COMPLETED else ""
        going = str(task.try_number) if task.try_number else started
        folder = RunFolder(None, run.payload_id, run.dag_id, run.run_id)  # type: ignore[arg-type]  # for its names only
        return self._event(
            what,
            (task.task_id, task.map_index, going, state),
            at={What.TASK_STARTED: started, What.TASK_COMPLETED: ended}.get(what, self._now),
            says_no=task.says_no and state == "success",
            state=state,
            started=started,
            ended=ended,
            task_id=task.task_id,
            map_index=task.map_index,
            first_try=first_try,
            try_number=task.try_number,
            execution_id=execution_id_of(folder.output_key(task.task_id, task.map_index, first_try)),
        )

    def _event(
        self, what: What, marks: tuple[object, ...], *, cancelled: bool = False, says_no: bool = False, **more: Any
    ) -> Happening:
        run = self._run
        return Happening(
            id=happening_id(run.instance_id, what, *marks),
            what=what,
            instance_id=run.instance_id,
            dag_id=run.dag_id,
            run_id=run.run_id,
            run_began=run.began,
            workflow=run.workflow,
            payload_id=run.payload_id,
            correlation_id=self._correlation_id,
            status=TaskStatus.PARTIAL_FAIL if says_no else status_of(more["state"], cancelled=cancelled),
            **more,
        )


def _is_later(task: TaskSeen, known: TaskKnown) -> bool:
    if task.try_number != known.last_try:
        return task.try_number > known.last_try
    return task.try_number == 0 and not known.is_open and task.started > known.began


def execution_id_of(output_key: str) -> str:
    """The execution id of the going of a task whose output is there, as its own record has it."""
    import uuid

    return str(uuid.uuid5(uuid.NAMESPACE_OID, output_key))


def _key(task_id: str, map_index: int) -> str:
    return f"{task_id}#{map_index}"
