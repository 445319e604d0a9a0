"""Now and then, at the start of a task that runs an application: remove what earlier ones of this host left behind."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import MonaiError

if TYPE_CHECKING:
    from airflow_monai.gpu.lease_folder import LeaseFolder
    from airflow_monai.maps.runners.base import MapJob, Runner
    from airflow_monai.maps.sweep import Swept, Task, TaskState
    from airflow_monai.store.base import Store

DAY_SECONDS = 86_400.0
EVERY_SECONDS = 180.0
"""How often a host does it for a store and a runner."""

TASK_SECONDS = 10.0
"""A task that has work of its own begins no further removal after so long."""


def sweep_now_and_then(
    store: Store, runner: Runner, job: MapJob, ti: Any, *, say: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Remove what is over, unless this host has done so lately. Nothing that goes wrong here is the task's trouble.

    :param job: of this task, which is spared.
    :param ti: the task instance, by which Airflow can be asked.
    """
    from airflow_monai.maps.workspace import remove_stale

    try:
        if is_due(f"scratch {store.identity}", DAY_SECONDS) and (count := remove_stale(store)):
            say(f"Removed what jobs of {count} payloads had left on this host long ago.")
        if not is_due(f"{store.identity} {runner.engine_names()[0]}"):
            return
        for swept in sweep(store, runner, ask=partial(state_told_to_a_task, ti), spare=job, seconds=TASK_SECONDS):
            if swept.is_over:
                (warn if swept.problem else say)(f"Left behind, and {'' if swept.problem else 'now removed: '}{swept}")
    except (MonaiError, OSError) as error:
        warn(f"Nobody could look for applications that were left behind: {error}")


def sweep(
    store: Store,
    runner: Runner,
    *,
    ask: Callable[[Task], TaskState],
    spare: MapJob | None = None,
    dry_run: bool = False,
    seconds: float = 600.0,
) -> list[Swept]:
    """Judge what the runner has of the store's tasks, remove what is over and give its cards back.

    :param spare: a job that is left alone.
    :raises MapError: when the engine cannot be asked.
    """
    from airflow_monai import settings
    from airflow_monai.gpu.lease_folder import LeaseFolder
    from airflow_monai.maps.sweep import Sweep

    path = settings.load_gpu().lease_folder
    folder = LeaseFolder(path) if path.is_dir() else None
    name = runner.name_of(spare) if spare is not None else ""
    free = partial(_free, folder)
    return Sweep(store, runner, ask, free, name, dry_run=dry_run, seconds=seconds).run()


def free_unused_cards(*, dry_run: bool = False) -> list[str]:
    """Give back the cards of this host that are leased for jobs that are gone; the names of these.

    :param dry_run: name them only.
    """
    from airflow_monai import settings
    from airflow_monai.gpu.lease_folder import LeaseFolder
    from airflow_monai.operators.cards import is_used

    path = settings.load_gpu().lease_folder
    if not path.is_dir():
        return []
    folder = LeaseFolder(path)
    dead = [lease for lease in folder.read().leases if not folder.lives(lease.owner)]
    gone = [lease.name for lease in dead if not is_used(lease)]
    for name in () if dry_run else gone:
        _free(folder, name)
    return gone


def _free(folder: LeaseFolder | None, name: str) -> None:
    if folder is not None:
        from airflow_monai.gpu.leases import release

        release(folder, name)


def state_told_to_a_task(ti: Any, task: Task) -> TaskState:
    """What Airflow tells the process of a task about another task."""
    from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

    from airflow_monai.maps.sweep import TaskState

    ask = getattr(ti, "get_task_states", None)
    if ask is None:
        return TaskState.UNKNOWN
    try:
        found = ask(dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index)
    except (AirflowException, AirflowRuntimeError, OSError, ValueError):  # ValueError: not the answer that it should be
        return TaskState.UNKNOWN
    key = task.task_id if task.map_index < 0 else f"{task.task_id}_{task.map_index}"
    of_run = found.get(task.run_id, {})
    return state_of(of_run[key]) if key in of_run else TaskState.UNKNOWN


def state_told_by_the_database(task: Task) -> TaskState:
    """The same for a command on a host that has Airflow's database."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    from airflow_monai.maps.sweep import TaskState

    wanted = {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "map_index": task.map_index}
    conditions = (getattr(TaskInstance, column) == value for column, value in wanted.items())
    try:
        with create_session() as session:
            row = session.execute(select(TaskInstance.state).where(*conditions)).first()
    except (SQLAlchemyError, RuntimeError):
        return TaskState.UNKNOWN
    return TaskState.UNKNOWN if row is None else state_of(row[0])


def state_of(state: Any) -> TaskState:
    """What a state of Airflow's means here; a task without one is yet to be scheduled."""
    from airflow_monai.maps.sweep import TaskState

    over = ("success", "failed", "skipped", "upstream_failed", "removed")
    return TaskState.OVER if str(getattr(state, "value", state)) in over else TaskState.OPEN


def is_due(key: str, seconds: float = EVERY_SECONDS) -> bool:
    """Whether it is this process's turn: nobody on this host has had it for so long, or has it now.

    :raises OSError: when nobody can tell, so that it would never be anybody's turn.
    """
    name = f"airflow-monai-sweep-{os.getuid()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    fd = os.open(Path(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        known = os.fstat(fd)
        if known.st_size and abs(time.time() - known.st_mtime) < seconds:
            return False
        os.ftruncate(fd, 0)
        os.write(fd, b"swept\n")
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
