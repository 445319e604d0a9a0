"""The folder ``.monai``: what trials share, and a folder for each run.

.monai/cache/                 the migrated database that every run begins with a copy of
      /runs/<name>/lock       held as long as the run's process lives
                  /stack.json what it has started, until that has ended
                  /store      payload, artifacts, records, logs of applications
                  /exports    what went to destinations; /mail: e-mails
                  /logs       Airflow's log, PostgreSQL's log
                  /work       database and Airflow's home; removed at the end
                  /kept       there when it is to stay for good
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow_monai.local.record import StackRecord, teardown
from airflow_monai.local.trial.options import TrialError

KEPT_RUNS = 5
MARK = "kept"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one trial, which this process holds."""

    path: Path
    lock: IO[str]

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def exports(self) -> Path:
        return self.path / "exports"

    @property
    def mail(self) -> Path:
        return self.path / "mail"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def release(self, keep: bool) -> None:
        """The run is over: its results stay, its database only where ``keep`` says so."""
        if keep:
            (self.path / MARK).touch()
        else:
            shutil.rmtree(self.work, ignore_errors=True)
        self.lock.close()


def cache_folder(state: Path) -> Path:
    return state / "cache"


def new_run(state: Path, name: str) -> RunFolder:
    """A folder for a new run, after what killed runs left has been cleaned up and old results have been removed.

    :raises TrialError: when the folder cannot be written to.
    """
    runs = state / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        ignored = state / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")
        _clean(runs)
        path = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{name[:60]}-{secrets.token_hex(2)}"
        made = runs / f".new-{path.name}"
        made.mkdir()
        lock = open(made / "lock", "w")  # noqa: SIM115 - held as long as the run lives
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(path)  # it is never seen without being locked
        for folder in ("work", "exports", "logs"):
            (path / folder).mkdir()
    except OSError as error:
        raise TrialError(f"{state} cannot be written to ({error.strerror or error}): choose another --state.") from None
    return RunFolder(path, lock)


def _clean(runs: Path) -> None:
    """End what killed runs have left running, and remove all but the newest results."""
    over = [path for path in sorted(runs.iterdir(), reverse=True) if path.is_dir() and _is_over(path)]
    for path in over:
        record = StackRecord.load(path)
        if record is not None:
            teardown(record)
        if not (path / MARK).exists():
            shutil.rmtree(path / "work", ignore_errors=True)
    removable = [path for path in over if not (path / MARK).exists()]
    for path in removable[KEPT_RUNS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _is_over(path: Path) -> bool:
    """Whether no process holds the run's lock."""
    try:
        with open(path / "lock", "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return time.time() - os.stat(path).st_mtime > 60  # it died while it was made
    except OSError:
        return False
    return True
