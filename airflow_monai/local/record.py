"""The record of a running stack in its state folder, and ending a stack by it: from its owner, its guard, `make stop`.

<state>/stack.json     what runs, by pid and start time; there from the first process on until all have ended
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from airflow_monai.local.containers import remove_containers
from airflow_monai.local.processes import ProcessRef, end, family, marked, wait_until

DATABASE = "postgres"


@dataclass(slots=True)
class StackRecord:
    """What must be known to end a stack.

    :param owner: the process that started it; None for a stack that stays (KEEP=1, `make up`).
    :param token: mark in the environment of everything that it started.
    """

    state: Path
    token: str
    owner: ProcessRef | None
    processes: dict[str, ProcessRef] = field(default_factory=dict)
    socket_folder: str | None = None
    store: str | None = None
    ui: str | None = None

    def save(self) -> None:
        data = asdict(self) | {"state": str(self.state)}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(data, indent=2))
        os.replace(temporary, self.path)

    @property
    def path(self) -> Path:
        return self.state / "stack.json"

    def running(self) -> list[str]:
        """Names of the components that are alive."""
        return [name for name, ref in self.processes.items() if ref.alive()]

    @classmethod
    def load(cls, state: Path) -> StackRecord | None:
        """The record of the stack in this state folder, None when there is none."""
        try:
            data = json.loads((state / "stack.json").read_text())
        except (OSError, ValueError):
            return None
        return cls(**data | {
            "state": state,
            "owner": _ref(data["owner"]),
            "processes": {name: ref for name, value in data["processes"].items() if (ref := _ref(value))},
        })  # fmt: skip


def teardown(record: StackRecord, *, grace: float = 8.0) -> None:
    """End everything of a stack: first in good order, then for sure. May be repeated.

    :param grace: seconds that what does not end at once gets before it is killed.
    """
    others = [ref for name, ref in record.processes.items() if name != DATABASE]
    for ref in others:
        ref.signal(signal.SIGTERM)
    wait_until(lambda: not any(ref.alive() for ref in others), grace / 2)
    database = record.processes.get(DATABASE)
    of_database = family(database)  # it ends its own, in the right order
    end([ref for ref in marked(record.token) if ref.pid not in of_database], grace=grace)
    end(others, grace=1, group=True)
    _stop_database(database)
    end(marked(record.token), grace=1)
    remove_containers(record.store)
    if record.socket_folder:
        shutil.rmtree(record.socket_folder, ignore_errors=True)
    record.path.unlink(missing_ok=True)


def _stop_database(database: ProcessRef | None) -> None:
    """SIGINT is PostgreSQL's fast shutdown: it ends the sessions and removes its shared memory."""
    if database is None:
        return
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGQUIT, 3), (signal.SIGKILL, 3)):
        database.signal(number)
        if wait_until(lambda: not database.alive(), seconds):
            return


def _ref(value: dict[str, Any] | None) -> ProcessRef | None:
    return ProcessRef(**value) if value else None
