"""What a trial came to: for the terminal, and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_monai.local.trial.mail import Mail
from airflow_monai.local.trial.watch import TaskState
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store.base import Store
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord
from airflow_monai.wording import counted

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task.

    :param why: why it was skipped, or why it failed.
    :param artifacts: name -> files.
    :param log: the application's whole log.
    """

    name: str
    type: str
    state: str
    seconds: float | None = None
    why: tuple[str, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    log: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "type": self.type,
            "state": self.state,
            "seconds": self.seconds,
            "why": list(self.why),
            "result": dict(self.result),
            "artifacts": {name: list(files) for name, files in self.artifacts.items()},
            "log": self.log,
        }


@dataclass(frozen=True, slots=True)
class TrialReport:
    """The whole trial.

    :param exports: destination -> files in the folder that stood for it.
    :param folder: what all is in; ``airflow_log``: Airflow's own log.
    :param start_seconds: until the first task could begin; ``seconds``: all together.
    """

    workflow: str
    version: str
    state: str
    payload_id: str
    images: int
    start_seconds: float
    seconds: float
    tasks: tuple[TaskReport, ...]
    exports: Mapping[str, tuple[str, ...]]
    mails: tuple[Mail, ...]
    folder: Path
    airflow_log: Path
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        told = {
            "workflow": self.workflow,
            "version": self.version,
            "state": self.state,
            "payload_id": self.payload_id,
            "images": self.images,
            "start_seconds": round(self.start_seconds, 2),
            "seconds": round(self.seconds, 2),
            "tasks": [task.to_dict() for task in self.tasks],
            "exports": {name: list(files) for name, files in self.exports.items()},
            "mails": [{"file": str(m.file), "to": list(m.to), "subject": m.subject} for m in self.mails],
            "folder": str(self.folder),
            "airflow_log": str(self.airflow_log),
            "notes": list(self.notes),
        }
        return json.dumps(told, indent=2, ensure_ascii=False, default=str) + "\n"

    def lines(self) -> Iterator[str]:
        yield ""
        yield f"{self.workflow} {self.version}: {self.state} after {self.seconds:.1f} s"
        for task in self.tasks:
            yield from _task_lines(task)
        for name, files in self.exports.items():
            yield f"  exported to {name}: {counted(len(files), 'file')}"
            yield from _files(files)
        for mail in self.mails:
            yield f"  e-mail to {', '.join(mail.to)}, not sent: {mail.subject!r}: {_near(mail.file)}"
        yield f"  all of it: {_near(self.folder)}"
        if self.state != "success":
            yield f"  Airflow's log: {_near(self.airflow_log)}"


def _task_lines(task: TaskReport) -> Iterator[str]:
    seconds = f" in {task.seconds:.1f} s" if task.seconds and task.state in ("success", "failed") else ""
    yield f"  {task.name} ({task.type}): {task.state}{seconds}"
    for reason in task.why:
        yield f"    {reason}"
    for key, value in task.result.items():
        yield f"    {key} = {_short(value)}"
    for name, files in task.artifacts.items():
        yield f"    {name}: {counted(len(files), 'file')}"
        yield from _files(files)
    if task.log:
        yield f"    log: {_near(task.log)}"


def _files(files: Sequence[str]) -> Iterator[str]:
    yield from (f"      {_near(file)}" for file in files[:_SHOWN])
    if len(files) > _SHOWN:
        yield f"      and {len(files) - _SHOWN} more"


def _near(path: str | Path) -> str:
    """A path as it is typed where one is."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def task_report(state: TaskState, plan: WorkflowPlan, folder: RunFolder | None, why: Sequence[str] = ()) -> TaskReport:
    """What is known of one task, from Airflow and from its record in the store.

    :param folder: of the workflow instance; None when there is none.
    """
    kind = next((task.type.value for task in plan.tasks if task.id == state.task_id), "part of the graph")
    record = folder.record(state.task_id, state.map_index) if folder is not None else None
    if folder is None or record is None:
        return TaskReport(state.name, kind, state.state, state.seconds, tuple(why))
    reasons = (*why, *([record.error_msg] if record.error_msg and state.state == "failed" else ()))
    return TaskReport(
        state.name,
        kind,
        state.state,
        state.seconds,
        reasons,
        record.result,
        {name: tuple(_place(folder.store, key) for key in keys) for name, keys in record.artifacts.items()},
        _log(folder, record),
    )


def _log(folder: RunFolder, record: TaskRecord) -> str | None:
    key = folder.log_key(record.task_id, record.map_index, record.generation)
    return _place(folder.store, key) if folder.store.exists(key) else None


def _place(store: Store, key: str) -> str:
    path = store.local_path(key)
    return str(path) if path is not None else key


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "..."
