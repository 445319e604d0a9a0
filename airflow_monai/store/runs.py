"""What a workflow instance leaves in the store: a record for each task, and a fence that tells the newest try.

payloads/<payload_id>/workflows/<dag_id>/<run_id>/<task>[/<map index>]/task.json     record
                                                                      /task.retired.json   one that no longer counts
                                                                      /fence.json    who may publish
                                                                      /g<N>/...      output of generation N
                                                                      /g<N>.log      the application's whole log
                                                                      /g<N>.<note>.json  what a light task remembers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_monai.errors import Fenced
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import run_key
from airflow_monai.types import TaskRecord

CANCELED = "canceled"
"""Note of a generation: somebody canceled the task, which did not fail."""
MAP_NOTE = "map"
"""Note of a generation: the revision of the registered MAP that it began with, and stays with whatever becomes of the
registration."""
KEPT_NOTES = tuple(f".{name}.json" for name in (CANCELED, MAP_NOTE))
"""How the files of notes end that stay when outputs and results go: they tell how the task went, and of which MAP."""


def note_name(generation: int, name: str) -> str:
    """Of the note's file, beside the generation's output."""
    return f"g{generation}.{name}.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one workflow instance."""

    store: Store
    payload_id: str
    dag_id: str
    run_id: str

    def task_key(self, task_id: str, map_index: int = -1) -> str:
        key = f"{run_key(self.payload_id, self.dag_id, self.run_id)}/{safe_name(task_id)}"
        return key if map_index < 0 else f"{key}/{map_index}"

    def output_key(self, task_id: str, map_index: int, generation: int) -> str:
        """Folder that generation ``generation`` of the task writes its output to."""
        return f"{self.task_key(task_id, map_index)}/g{generation}"

    def note_key(self, task_id: str, map_index: int, generation: int, name: str) -> str:
        """A note of that generation, in the task's folder."""
        return f"{self.task_key(task_id, map_index)}/{note_name(generation, name)}"

    def log_key(self, task_id: str, map_index: int, generation: int) -> str:
        return f"{self.output_key(task_id, map_index, generation)}.log"

    def record(self, task_id: str, map_index: int = -1) -> TaskRecord | None:
        """The task's latest record, None when it has not run."""
        key = f"{self.task_key(task_id, map_index)}/task.json"
        if not self.store.exists(key):
            return None
        return self.store.read_as(key, TaskRecord.from_dict)

    def records(self, task_id: str) -> list[TaskRecord]:
        """The latest records of a task that runs for each series, in the order of these."""
        found = (self.record(task_id, index) for index in self._indexes(task_id))
        return [record for record in found if record is not None]

    def _indexes(self, task_id: str) -> list[int]:
        """Map indexes that a task has left something for."""
        return sorted(int(name) for name in self.store.children(self.task_key(task_id)) if name.isdecimal())

    def write_record(self, record: TaskRecord) -> None:
        self.store.write_json(f"{self.task_key(record.task_id, record.map_index)}/task.json", record.to_dict())

    def retire(self, task_ids: Iterable[str], map_index: int = -1) -> None:
        """Take the records of tasks out of use: they are from before a way to them was given up.

        :param map_index: of one series, where the way is one of tasks that run for each series; else all go.
        """
        for task_id in task_ids:
            for index in (map_index,) if map_index >= 0 else (-1, *self._indexes(task_id)):
                self._retire(f"{self.task_key(task_id, index)}/task.json")

    def _retire(self, key: str) -> None:
        if self.store.exists(key):
            record = self.store.read(key)
            self.store.delete(key)
            # last, since it is the writing that makes the folder, and so the removal, survive a power cut
            self.store.write(key.replace("task.json", "task.retired.json"), record)


FENCES, ONE_FENCE = "fences", "fence.json"
"""Folder of the claims of a task; the file that an earlier release had instead."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a try said of itself when it claimed its task.

    :param skipped: how far the generations of the store are ahead of those that Airflow's tries tell.
    :param clears: how often somebody had cleared anything of the run by then; None where nobody told.
    """

    run_started: str = ""
    try_number: int = 0
    generation: int = 0
    skipped: int = 0
    clears: int | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Tells the newest try of a task from an older one whose process outlived its worker.

    Try numbers only grow, also when a person clears the task, so the highest one that claimed is the one that counts.
    They begin anew only in a run that was deleted and made again under the same id; that one has begun later.
    Each claim is a file with the next free number, and whoever finds that number taken looks again: a try that was held
    up just here, for however long, cannot put its claim over a newer one.

    :param run_started: UTC time at which the run began, as text that sorts by time.
    :param clears: how often somebody has cleared anything of the run; None where nobody tells.
    """

    folder: RunFolder
    task_id: str
    map_index: int
    try_number: int
    run_started: str = ""
    clears: int | None = None

    @property
    def _place(self) -> str:
        return self.folder.task_key(self.task_id, self.map_index)

    def claim(self, generation: int = 1) -> int:
        """Take over the task from all older tries; :class:`Fenced` when a newer one has it.

        :param generation: as the try numbers of this run tell it.
        :return: the generation to use: a higher one when that would be one of an earlier run of the same id, or of a
            try that was killed in a run of which somebody cleared something meanwhile.
        """

        def next_claim(last: Claim) -> Claim:
            skipped = last.skipped
            is_anew = last.run_started != self.run_started or self._may_be_cleared(last)
            if is_anew and generation + skipped <= last.generation:
                skipped = last.generation + 1 - generation
            return Claim(self.run_started, self.try_number, generation + skipped, skipped, self.clears)

        return self._claim(next_claim)

    def _may_be_cleared(self, last: Claim) -> bool:
        """Whether a person may have cleared the task while its last try ran, and that try could not end its work.

        Of a try whose worker died Airflow's try numbers tell the same, whether a person has cleared it or not. That
        something of the run was cleared is all that is known then; a retry that begins anew does no harm, one that goes
        on with what a person wanted to be ended does.
        """
        if self.clears is None or last.clears is None or self.clears <= last.clears:
            return False
        if self.try_number <= last.try_number:
            return False
        record = self.folder.record(self.task_id, self.map_index)
        return record is None or (record.generation, record.try_number) != (last.generation, last.try_number)

    def claim_after(self, goes_on: Callable[[int], bool]) -> int:
        """Take over the task where nobody tells whether this try begins a generation; :class:`Fenced` as ``claim``.

        :param goes_on: whether this try goes on with that generation, which is the last one.
        :return: the generation: the last one when this try goes on with it, else the next.
        """

        def next_claim(last: Claim) -> Claim:
            is_same_try = (last.run_started, last.try_number) == (self.run_started, self.try_number)
            again = last.generation > 0 and (is_same_try or goes_on(last.generation))
            return Claim(self.run_started, self.try_number, last.generation if again else last.generation + 1)

        return self._claim(next_claim)

    def _claim(self, next_claim: Callable[[Claim], Claim]) -> int:
        while True:
            number, last = self._newest()
            self._compare(last)
            claim = next_claim(last)
            key = f"{self._place}/{FENCES}/{number + 1:06d}.json"
            if claim == last or self.folder.store.create_json(key, asdict(claim)):
                return claim.generation

    def check(self) -> None:
        """Raise :class:`Fenced` when a newer try has claimed the task."""
        self._compare(self.last())

    def is_taken_over(self) -> bool:
        """Whether a newer try has claimed the task."""
        try:
            self.check()
        except Fenced:
            return True
        return False

    def last(self) -> Claim:
        """What the newest try that claimed said of itself; try number 0 where none has."""
        return self._newest()[1]

    def _newest(self) -> tuple[int, Claim]:
        """The last claim and its number."""
        store = self.folder.store
        names = list(store.children(f"{self._place}/{FENCES}"))
        if names:
            return int(names[-1].removesuffix(".json")), store.read_as(f"{self._place}/{FENCES}/{names[-1]}", _claim)
        key = f"{self._place}/{ONE_FENCE}"
        return 0, store.read_as(key, _claim) if store.exists(key) else Claim()

    def _compare(self, last: Claim) -> None:
        if (last.run_started, last.try_number) > (self.run_started, self.try_number):
            newer = "" if last.run_started == self.run_started else " in a newer run of the same id"
            raise Fenced(
                f"Try {last.try_number}{newer} of task {self.task_id} has taken over from try {self.try_number}; this "
                "process stops without touching the container or the results."
            )


def _claim(data: Mapping[str, Any]) -> Claim:
    return Claim(**data)
