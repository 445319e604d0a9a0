"""Where an application was started, for workers of several hosts that share one store.

A job's name keeps one engine, or one host, from running it twice. It says nothing to another engine: there a second
copy would write into the output folder of the first. So each generation has a small file beside its output that tells
where it was started, and it is started nowhere else; an object of the bucket, where the store is in one.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError, RunnerUnavailable
from airflow_monai.maps.runners.base import MapJob
from airflow_monai.maps.workspace import ANYWHERE, PLACE

SUFFIX = PLACE


@dataclass(frozen=True, slots=True)
class Place:
    """The place where this worker runs jobs.

    :param what: what kind of place it is, for messages.
    :param names: gives its names, asked only where there is a need; one that is equal makes two places one.
    """

    what: str
    names: Callable[[], Sequence[str]]

    def enter(self, job: MapJob, *, anywhere: bool = False) -> None:
        """Take note that the job is started here.

        :param anywhere: workers of other hosts can go on with it, as far as they see this place.
        :raises RunnerUnavailable: when it was started elsewhere and is not known to be gone.
        """
        content: dict[str, object] = {"names": list(self.names()), "worker": platform.node()}
        if anywhere:
            content[ANYWHERE] = True
        if not (job.notes.create(SUFFIX, content) if job.notes else _created(_file(job), content)):
            self.require_here(job)

    def require_here(self, job: MapJob) -> None:
        """:class:`RunnerUnavailable` when the job was started elsewhere."""
        noted = job.notes.read(SUFFIX) if job.notes else _noted(_file(job))
        if noted is None or set(noted["names"]) & set(self.names()):
            return
        raise RunnerUnavailable(
            f"{job.name} was started on another {self.what} than this worker's (by the worker on {noted['worker']}), "
            "and this worker cannot see whether it still runs. It is not started a second time beside itself: a retry "
            "on a worker with that one goes on with it. If that is gone for good, clear the task, which starts it "
            "anew. To avoid this, let all workers of a queue use one engine, or give each host a queue of its own."
        )

    def leave(self, job: MapJob) -> None:
        """Forget the job, which is gone."""
        if job.notes:
            job.notes.remove(SUFFIX)
        else:
            _file(job).unlink(missing_ok=True)

    def leave_others(self, job: MapJob) -> None:
        """Forget the task's other generations that were started here, which are gone."""
        for other in job.notes.others(SUFFIX) if job.notes else ():
            noted = other.read(SUFFIX)
            if noted and set(noted["names"]) & set(self.names()):
                other.remove(SUFFIX)
        if job.notes:
            return
        for file in job.state.parent.glob(f"g*{SUFFIX}"):
            noted = _noted(file) if file != _file(job) else None
            if noted and set(noted["names"]) & set(self.names()):
                file.unlink(missing_ok=True)


@cache
def host_names() -> tuple[str, ...]:
    """This host's boot, in which locks tell who is alive, and the host itself: what ran before another boot is gone."""
    boot = _text("/proc/sys/kernel/random/boot_id")
    names = (f"host {platform.node()} {_text('/etc/machine-id')}",)
    return (f"boot {boot}", *names) if boot else names  # two hosts that cannot tell theirs are not one


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _file(job: MapJob) -> Path:
    return job.state.with_suffix(SUFFIX)


def _created(file: Path, content: dict[str, object]) -> bool:
    """Create the file whole and durable, unless there is one."""
    if file.exists():
        return False
    temporary = file.with_name(f".tmp-{file.name}-{platform.node()}-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w") as opened:
            json.dump(content, opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.link(temporary, file)  # unlike rename, link refuses to replace: one creator wins
    except FileExistsError:
        return False
    except OSError as error:
        raise MapError(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _noted(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunnerUnavailable(f"{file}, which says where a MAP was started, cannot be read: {error}.") from error
