"""Runs a MAP as a process of this host, for laptops and the demo: no container engine, no image.

As durable as a container: a keeper in a session of its own holds the application and writes down how it ended, so a
new try on this host follows one that runs or takes the verdict of one that has ended. The memory limit is enforced by
looking, ten times a second, and so is that on processes; there is no limit on cores.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError, MapInterrupted, PolicyRefused, RunnerUnavailable
from airflow_monai.locks import is_locked
from airflow_monai.maps.job import store_label
from airflow_monai.maps.logs import MAX_LOG_BYTES
from airflow_monai.maps.policy import HOST_NETWORK, NO_NETWORK
from airflow_monai.maps.resolve import find_folder
from airflow_monai.maps.runners.base import (
    CHECK_SECONDS,
    STOP_GRACE_SECONDS,
    Check,
    Exit,
    FoundMap,
    MapJob,
    Runner,
    Trace,
    Usage,
    with_deadline,
)
from airflow_monai.maps.runners.folders import empty_output
from airflow_monai.maps.runners.gpu_usage import GpuMemory, sampled
from airflow_monai.maps.runners.lines import LineSplitter, OnLine
from airflow_monai.maps.runners.place import Place, host_names
from airflow_monai.maps.runners.process import keeper
from airflow_monai.maps.runners.process.sandbox import Start, bubblewrap_works, check_cards, proc_options, start_of
from airflow_monai.settings import Settings
from airflow_monai.store.base import Store

LOOK_SECONDS = 0.03
LOST = 137
_KEEPER = b"/process/keeper.py"
PLACE = Place("host", lambda: host_names())
log = logging.getLogger(__name__)


class ProcessRunner(Runner):
    """Processes of this host, isolated by bubblewrap where it works."""

    name = "process"

    def __init__(self, settings: Settings, store: Store):
        self.map_path = settings.map_path
        self.store = store

    def find(self, reference: str) -> FoundMap:
        folder, manifest = find_folder(reference, self.map_path)
        return FoundMap(reference, str(folder), manifest)

    def run(self, job: MapJob, *, on_line: OnLine, check: Check) -> Exit:
        if job.gpus and not job.devices:
            raise MapError(
                f"{job.found.reference} wants a GPU, and the process runner gives only leased ones: make the site's "
                "inventory (`airflow monai pools sync --detect`), or use docker."
            )
        _check_network(job)
        kept = _Kept(job.state)
        reattached = kept.exists()
        child = None
        if not reattached:
            check()
            isolated = _is_isolated()  # before anything says that it was started here
            if isolated:
                check_cards(job)
            PLACE.enter(job)
            kept.remove(STOP_GRACE_SECONDS)
            child = self._start_checked(job, check, isolated)
        self.begun()
        with sampled(GpuMemory(kept.application_pids)) if job.devices else nullcontext() as gpu:
            verdict = _follow(kept, child, on_line, check)
        usage = Usage(
            verdict.pop("peak_memory_bytes", None), verdict.pop("cpu_seconds", None), gpu.peak if gpu else None
        )
        return Exit(reattached=reattached, usage=usage, **verdict)

    def kill(self, job: MapJob) -> None:
        _Kept(job.state).kill_application()

    def discard(self, job: MapJob) -> None:
        kept = _Kept(job.state)
        if kept.verdict() is None:
            PLACE.require_here(job)
        kept.remove(STOP_GRACE_SECONDS)
        PLACE.leave(job)

    def holds(self, name: str, state: Path) -> bool:
        kept = _Kept(state)
        return kept.may_live() or kept.application_lives()

    def require_here(self, job: MapJob) -> None:
        PLACE.require_here(job)

    def traces(self) -> Iterable[Trace]:
        """The jobs that run on this host; of those that have ended nothing is left but files."""
        wanted = store_label(self.store).items()
        for state in _kept_here():
            with contextlib.suppress(OSError, ValueError, KeyError, RunnerUnavailable):  # it ends just now
                job = json.loads((state / "job.json").read_bytes())
                if wanted <= job["labels"].items() and _Kept(state).is_alive(None):  # one that just begins is not yet
                    made_at = (state / "job.json").stat().st_mtime
                    yield Trace(job["name"], job["labels"], made_at, "running", remove=_Kept(state).remove)

    def discard_other_generations(self, job: MapJob) -> None:
        for folder in job.state.parent.glob("g*.run"):
            if folder != job.state:
                _Kept(folder).remove(STOP_GRACE_SECONDS)
        PLACE.leave_others(job)

    def _start_checked(self, job: MapJob, check: Check, isolated: bool) -> subprocess.Popen[bytes]:
        check()
        child = self._start(job, isolated=isolated)
        try:
            check()
        except MapInterrupted:
            child.terminate()  # it may not have taken its lock yet, by which a discard would know it
            raise
        return child

    def _start(self, job: MapJob, *, isolated: bool | None = None) -> subprocess.Popen[bytes]:
        """Start its keeper.

        :param isolated: what :func:`_is_isolated` has said; None to ask it.
        """
        empty_output(replace(job, user=f"{os.getuid()}:{os.getgid()}"))  # a process has the worker's user
        scratch = job.state / "work"
        scratch.mkdir(parents=True)
        start = start_of(job, scratch, isolated=_is_isolated() if isolated is None else isolated)
        if not start.isolated:
            log.warning(
                "bubblewrap does not work here: %s runs as a plain process that can read what this worker can and use "
                "the network. Install bubblewrap, or use the docker runner.",
                job.found.reference,
            )
        elif job.confinement.network == HOST_NETWORK:
            log.warning("%s uses the whole network of this host, its local services too", job.found.reference)
        keeper.write_json(str(job.state / "job.json"), _job_file(job, start))
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(job.state)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **job.secrets},
                start_new_session=True,
                pass_fds=job.keep_open,  # until the keeper has its lock nobody else could tell that it is there
            )
        except OSError as error:
            raise RunnerUnavailable(f"No process can be started on this host: {error.strerror}.") from error


def _is_isolated() -> bool:
    """Whether applications are shut in here; :class:`RunnerUnavailable` when that, or how, cannot be told now."""
    works = bubblewrap_works()
    if works:
        proc_options()  # which is kept
    return works


def _kept_here() -> Iterator[Path]:
    """State folders of the keepers that run on this host."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = Path(entry.path, "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                if len(words) > 2 and words[-2].endswith(_KEEPER):
                    yield Path(os.fsdecode(words[-1]))


def _check_network(job: MapJob) -> None:
    """:class:`PolicyRefused` for a network that only a container engine has: here there is the host's own or none."""
    network = job.confinement.network
    if network not in (NO_NETWORK, HOST_NETWORK):
        raise PolicyRefused(
            f"{job.found.reference} wants the network {network!r} (args.network). The process runner has no networks "
            "of its own: a process gets the whole network of this host or none, which would be more than was asked "
            "for. Remove args.network, or use the docker or kubernetes runner."
        )


def _job_file(job: MapJob, start: Start) -> Mapping[str, Any]:
    return {
        "name": job.name,
        "labels": with_deadline(job),
        "argv": start.argv,
        "environment": dict(start.environment),
        "secrets": sorted(job.secrets),
        "cwd": str(start.cwd),
        "memory_bytes": job.resources.memory_bytes,
        "timeout_seconds": job.timeout_seconds,
        "grace_seconds": job.confinement.grace_seconds,
        "processes": job.confinement.pids,
        "log_bytes": MAX_LOG_BYTES,
    }


def _follow(kept: _Kept, child: subprocess.Popen[bytes] | None, on_line: OnLine, check: Check) -> dict[str, Any]:
    """Hand out the log's lines until the application has ended; its verdict."""
    splitter = LineSplitter(on_line)
    next_check = time.monotonic() + CHECK_SECONDS
    with kept.open_log() as file:
        while True:
            verdict = kept.verdict()  # before the log is read: nothing is written after it
            alive = verdict is None and kept.is_alive(child)
            while data := file.read(65536):
                splitter.feed(data)
            if verdict is None and not alive:
                verdict = kept.verdict() or {"code": LOST}  # the keeper itself was killed
            if verdict is not None:
                splitter.close()
                return verdict
            if time.monotonic() >= next_check:
                check()
                next_check = time.monotonic() + CHECK_SECONDS
            time.sleep(LOOK_SECONDS)


class _Kept:
    """A keeper's folder, seen from outside."""

    def __init__(self, folder: Path):
        self.folder = folder

    def exists(self) -> bool:
        """Whether there is an application that runs or has a verdict.

        :raises RunnerUnavailable: when that cannot be told.
        """
        return self.verdict() is not None or self._locked()

    def verdict(self) -> dict[str, Any] | None:
        """How it ended; None when it has not, or nobody can know any more.

        :raises RunnerUnavailable: when that cannot be read now.
        """
        try:
            return dict(json.loads((self.folder / "exit.json").read_bytes()))
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise self._untold(error) from error

    def is_alive(self, child: subprocess.Popen[bytes] | None) -> bool:
        """Whether the keeper lives; ``child`` is the one that this process started, if it did.

        :raises RunnerUnavailable: when that cannot be told.
        """
        if child is not None and child.poll() is None:
            return True
        return self._locked()

    def may_live(self) -> bool:
        """Whether the keeper lives, or nobody can tell."""
        return is_locked(self.folder / "lock", unknown=True)

    def application_lives(self) -> bool:
        """Whether it runs without its keeper, which was killed."""
        identity = (self._json("pid.json") or {}).get("application")
        return identity is not None and keeper.start_time(identity["pid"]) == identity["start"] is not None

    def open_log(self) -> Any:
        return open(os.open(self.folder / "output.log", os.O_RDONLY | os.O_CREAT, 0o600), "rb")

    def application_pids(self) -> list[int]:
        """The application's processes, as far as it runs."""
        identity = (self._json("pid.json") or {}).get("application")
        if not identity or keeper.start_time(identity["pid"]) != identity["start"]:
            return []
        return keeper.descendants(identity["pid"])

    def remove(self, grace: float = STOP_GRACE_SECONDS) -> None:
        """End the application if it runs, then remove the folder."""
        if self._locked():
            self._end_keeper(grace + 2)
            self._signal("keeper", signal.SIGKILL)
        if self.verdict() is None:
            self.kill_application()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_keeper(self, seconds: float) -> None:
        """Ask it to end until it has; one that has just begun cannot be asked yet."""
        deadline = time.monotonic() + seconds
        while self._locked() and time.monotonic() < deadline:
            self._signal("keeper", signal.SIGTERM)
            time.sleep(LOOK_SECONDS)

    def _locked(self) -> bool:
        try:
            return is_locked(self.folder / "lock")
        except OSError as error:
            raise self._untold(error) from error

    def _untold(self, error: OSError) -> RunnerUnavailable:
        return RunnerUnavailable(
            f"Whether the application of {self.folder} runs cannot be told: {error.strerror or error}."
        )

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.folder / name).read_bytes()))
        except (OSError, ValueError):
            return None

    def _signal(self, who: str, number: int) -> None:
        """Signal the keeper or the application, if the process with its id is still that one."""
        identity = (self._json("pid.json") or {}).get(who)
        if identity and keeper.start_time(identity["pid"]) == identity["start"]:
            with contextlib.suppress(OSError):
                os.kill(identity["pid"], number)

    def kill_application(self) -> None:
        """End it at once, also one that a keeper that was killed left behind."""
        for pid in self.application_pids():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
