"""Removes applications that nobody will follow any more: their worker died on the task's last try, or could not do it.

What a runner finds of this store is judged by what the store says of its task, and by Airflow where that can be asked.
What nobody can tell about stays.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from airflow_monai.errors import MonaiError
from airflow_monai.maps.following import forget, is_followed, was_let_go
from airflow_monai.maps.job import LABEL, bare_job_of, staging_beside
from airflow_monai.maps.runners.base import MapJob, Runner, Trace
from airflow_monai.maps.workspace import clear
from airflow_monai.store.base import Store
from airflow_monai.store.runs import Fence, RunFolder
from airflow_monai.types import TaskStatus

UNSTARTED_SECONDS = 600.0
"""Between its creation and its start a container waits for moments only."""

UNKNOWN_SECONDS = 3600.0
"""A job of which the store knows nothing stays for so long."""

_STOPPED = ("created", "exited", "dead", "succeeded", "failed")
"""Statuses, as engines word them, of what does not run."""

_ENDED = (TaskStatus.SUCCEEDED, TaskStatus.PARTIAL_FAIL, TaskStatus.CANCELED)
"""Of a failed one another try may follow."""


class TaskState(str, Enum):
    """What Airflow says of a task instance."""

    OVER = "over"
    OPEN = "open"
    UNKNOWN = "unknown"
    """It has none such, or cannot be asked."""


@dataclass(frozen=True, slots=True)
class Task:
    """The generation of a task that a job belongs to, as its labels tell."""

    payload_id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    generation: int

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Task | None:
        """None where the labels are not those of a job."""
        try:
            return cls(
                payload_id=labels[f"{LABEL}.payload"],
                dag_id=labels[f"{LABEL}.dag"],
                run_id=labels[f"{LABEL}.run"],
                task_id=labels[f"{LABEL}.task"],
                map_index=int(labels[f"{LABEL}.map_index"]),
                generation=int(labels[f"{LABEL}.generation"]),
            )
        except (KeyError, ValueError):
            return None

    def folder(self, store: Store) -> RunFolder:
        return RunFolder(store, self.payload_id, self.dag_id, self.run_id)


Ask = Callable[[Task], TaskState]


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of one trace.

    :param is_over: nobody will follow it any more; ``why`` says how that is known, or why it stays.
    :param problem: why it could not be removed; empty where it was, or was not tried.
    """

    trace: Trace
    is_over: bool
    why: str
    problem: str = ""

    def __str__(self) -> str:
        name = f"{self.trace.name} ({self.trace.status})"
        if self.problem:
            return f"{name} could not be removed ({self.why}): {self.problem}"
        return f"{name}: {self.why}"


def nobody_asked(_: Task) -> TaskState:
    return TaskState.UNKNOWN


@dataclass(frozen=True, slots=True)
class Sweep:
    """
    :param ask: what Airflow says of a task.
    :param free: gives back the cards of a job that is gone.
    :param spare: name of a job that is not touched, whatever is known of it.
    :param dry_run: judge, and remove nothing.
    :param seconds: no further one is removed after so long.
    """

    store: Store
    runner: Runner
    ask: Ask = nobody_asked
    free: Callable[[str], None] = lambda _: None
    spare: str = ""
    dry_run: bool = False
    seconds: float = 600.0

    def run(self) -> list[Swept]:
        """Judge what there is and remove what is over.

        :raises MapError: when the engine cannot be asked.
        """
        until, swept = time.monotonic() + self.seconds, []
        for trace in self.runner.traces():
            if self.spare and trace.name == self.spare:
                continue
            if time.monotonic() > until:
                break
            try:
                swept.append(self._swept(trace))
            except (MonaiError, OSError, ValueError, TypeError, KeyError) as error:
                swept.append(Swept(trace, False, f"what the store says of it cannot be read: {error}"))
        return swept

    def _swept(self, trace: Trace) -> Swept:
        task = Task.of(trace.labels)
        is_over, why = self._judged(trace, task)
        if not is_over or self.dry_run:
            return Swept(trace, is_over, why)
        try:
            if task is None:
                trace.remove()
            else:
                self._remove(trace, task)
        except (MonaiError, OSError) as error:
            return Swept(trace, True, why, problem=str(error))
        return Swept(trace, True, why)

    def _remove(self, trace: Trace, task: Task) -> None:
        """Remove a job, its folders beside its output, its notes, and give its cards back."""
        job = self._job(task)
        self.runner.discard(job)
        self.free(job.name)
        shutil.rmtree(staging_beside(job.output), ignore_errors=True)
        folder = task.folder(self.store)
        clear(self.store, folder.output_key(task.task_id, task.map_index, task.generation))
        with contextlib.suppress(MonaiError):  # they only inform
            forget(folder, task.task_id, task.map_index, task.generation)

    def _job(self, task: Task) -> MapJob:
        return bare_job_of(task.folder(self.store), task.task_id, task.map_index, task.generation)

    def _judged(self, trace: Trace, task: Task | None) -> tuple[bool, str]:
        """Whether nobody will follow it any more, and how that is known."""
        age = max(0.0, time.time() - trace.made_at)
        if trace.reader_seconds is not None:
            return age > trace.reader_seconds, "it was to read an image's manifests"
        if task is None or self.runner.name_of(self._job(task)) != trace.name:
            return False, "its labels and its name do not belong together: it is none of ours"
        folder, place = task.folder(self.store), (task.task_id, task.map_index)
        claim = Fence(folder, *place, try_number=0).last()
        if claim.try_number == 0:
            return self._judged_without_store(trace, task, age)
        if claim.generation > task.generation:
            return True, "its task was cleared and has begun anew"
        if is_followed(folder, *place, task.generation):
            return False, "a try of its task follows it"
        if was_let_go(folder, *place, task.generation, claim.try_number):
            return True, "its task is done with it and could not remove it"
        record = folder.record(*place)
        if record and record.generation == task.generation and record.status in _ENDED:
            return True, "its task has ended"
        return self._judged_from_outside(trace, task, age)

    def _judged_without_store(self, trace: Trace, task: Task, age: float) -> tuple[bool, str]:
        """The same where the store knows nothing of its task.

        That may be a store that is not mounted here, or another of the same name: a living try may follow it.
        """
        why = "the store knows nothing of its task any more"
        state = self.ask(task)
        if state is TaskState.OPEN:
            return (
                False,
                "the store here knows nothing of its task, which has not ended, says Airflow: is it the right one?",
            )
        if state is TaskState.OVER:
            return age > UNKNOWN_SECONDS, why
        if trace.deadline is not None:
            is_over = time.time() > trace.deadline
            return is_over, f"{why}, and its time is {'' if is_over else 'not '}over"
        if trace.status in _STOPPED:
            return age > UNKNOWN_SECONDS, why
        return False, f"{why}; it runs and has no time limit, so somebody may still wait for it: remove it by hand"

    def _judged_from_outside(self, trace: Trace, task: Task, age: float) -> tuple[bool, str]:
        """The same where the store does not say that its task has ended."""
        state = self.ask(task)
        if state is TaskState.OVER:
            return True, "its task has ended, says Airflow"
        if state is TaskState.OPEN:
            return False, "its task has not ended, says Airflow"
        if trace.is_unstarted and age > UNSTARTED_SECONDS:
            return True, "it was made and never started, and no try of its task lives"
        deadline = trace.deadline
        if deadline is not None and time.time() > deadline:
            return True, "its time is long over, and no try of its task lives"
        if deadline is not None:
            return False, "no try of its task lives, but one may follow: it is removed when its time is over"
        return False, "no try of its task lives; whether one will follow, nobody here can tell, as it has no time limit"
