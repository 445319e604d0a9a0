"""Outputs that are to go: because somebody deleted them, or finalized the job. Any process may go on with it.

jobs/clearing/<job>.g<N>.<kind>.json    what is to be deleted, and from when on
jobs/cleared/<job>.g<N>.<kind>.json     the same, when nothing of it is left

A job that is run again has a new generation N of its outputs, which the notes of an earlier one say nothing about.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from airflow_monai.errors import MonaiError
from airflow_monai.jobs.requests import now_text
from airflow_monai.maps.workflows import TASK
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import tell_once
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.store.runs import KEPT_NOTES, Fence, RunFolder

log = logging.getLogger(__name__)
_OUTPUT = re.compile(r"g(?P<generation>[0-9]{1,9})(?P<rest>\..+)?")


class ClearingKind(str, Enum):
    """Why outputs go."""

    DELETED = "deleted"
    """The results, at once."""
    FINALIZED = "finalized"
    """The results and the application's log, at a time that is set."""


@dataclass(frozen=True, slots=True)
class Clearing:
    """Outputs of a job that are to go.

    :param generation: the newest one that goes; later ones stay.
    :param due: from when on (UTC, ISO 8601), and ``at``: when somebody wanted that.
    :param done: when nothing of it was left; empty until then.
    """

    kind: ClearingKind
    dag_id: str
    run_id: str
    payload_id: str
    generation: int
    due: str
    at: str
    by: str
    done: str = ""

    @property
    def job_id(self) -> str:
        return instance_id_of(self.dag_id, self.run_id)

    def is_due(self, now: datetime) -> bool:
        return bool(self.done) or datetime.fromisoformat(self.due) <= now

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kind": self.kind.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Clearing:
        return cls(**{**data, "kind": ClearingKind(data["kind"])})


def newest_generation(folder: RunFolder) -> int:
    """Of a job's outputs; 0 while it has none."""
    record = folder.record(TASK)
    return max(record.generation if record else 0, Fence(folder, TASK, -1, 0).last().generation)


class Clearings:
    """What is to go from a store."""

    def __init__(self, store: Store):
        self.store = store
        self._not_due: dict[str, datetime] = {}  # name -> when it is: a note never changes

    def find(self, job_id: str, generation: int, kind: ClearingKind) -> Clearing | None:
        name = _name(job_id, generation, kind)
        for folder in ("clearing", "cleared"):  # in this order: it is in the second before it leaves the first
            key = f"jobs/{folder}/{name}"
            if self.store.exists(key):
                return self.store.read_as(key, Clearing.from_dict)
        return None

    def want(self, folder: RunFolder, kind: ClearingKind, *, by: str, minutes: float = 0.0) -> tuple[Clearing, bool]:
        """Have the newest outputs of a job, and earlier ones, deleted.

        :param minutes: from now until that is due.
        :return: what is noted, and whether this call noted it.
        """
        generation = newest_generation(folder)
        job_id = instance_id_of(folder.dag_id, folder.run_id)
        known = self.find(job_id, generation, kind)
        if known is not None:
            return known, False
        due = datetime.now(timezone.utc) + timedelta(minutes=minutes)
        wanted = Clearing(
            kind,
            folder.dag_id,
            folder.run_id,
            folder.payload_id,
            generation,
            due.isoformat(timespec="milliseconds"),
            now_text(),
            by,
        )
        is_new = self.store.create_json(f"jobs/clearing/{_name(job_id, generation, kind)}", wanted.to_dict())
        return (wanted, True) if is_new else (self.find(job_id, generation, kind) or wanted, False)

    def sweep(self, limit: int = 100) -> int:
        """Delete what is due; how many of them. One that cannot be deleted now keeps no other."""
        done, now = 0, datetime.now(timezone.utc)
        names = list(self.store.children("jobs/clearing"))
        self._not_due = {name: self._not_due[name] for name in names if name in self._not_due}
        for name in names:
            if name in self._not_due and self._not_due[name] > now:
                continue
            try:
                wanted = self.store.read_as(f"jobs/clearing/{name}", Clearing.from_dict)
                if wanted.is_due(now):
                    self.clear(wanted)
                    done += 1
                else:
                    self._not_due[name] = datetime.fromisoformat(wanted.due)
            except (MonaiError, ValueError) as error:  # a due time that is none
                tell_once(f"The outputs that jobs/clearing/{name} names cannot be deleted now: {error}")
            if done >= limit:
                break
        return done

    def clear(self, wanted: Clearing) -> None:
        """Delete outputs; may be done again, or by two at once."""
        folder = RunFolder(self.store, wanted.payload_id, wanted.dag_id, wanted.run_id)
        whole = wanted.kind is ClearingKind.FINALIZED
        top = folder.task_key(TASK)
        for name in list(self.store.children(top)):
            found = _OUTPUT.fullmatch(name)
            if found is None or int(found["generation"]) > wanted.generation:
                continue
            if found["rest"] is None:
                self.store.delete_tree(f"{top}/{name}")
            elif whole and found["rest"] not in KEPT_NOTES:
                self.store.delete(f"{top}/{name}")
        self._empty_record(folder, wanted.generation)
        name = _name(wanted.job_id, wanted.generation, wanted.kind)
        self.store.write_json(f"jobs/cleared/{name}", replace(wanted, done=now_text()).to_dict())
        self.store.delete(f"jobs/clearing/{name}")

    def _empty_record(self, folder: RunFolder, generation: int) -> None:
        """How the task went stays known; what its application told of the patient goes with the files."""
        record = folder.record(TASK)
        if record is not None and record.generation <= generation and (record.artifacts or record.result):
            folder.write_record(replace(record, artifacts={}, result={}, output_dir=None))


def _name(job_id: str, generation: int, kind: ClearingKind) -> str:
    return f"{job_id}.g{generation}.{kind.value}.json"
