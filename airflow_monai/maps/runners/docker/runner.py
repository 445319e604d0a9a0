"""Runs a MAP in a container of a Docker engine.

The engine keeps the container when the worker dies, so a new try finds it by its name: it follows one that runs, takes
the verdict of one that has ended, and starts one that was only created.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError, MapInterrupted, RunnerUnavailable
from airflow_monai.maps.logs import MAX_LOG_BYTES, TAIL_LINES
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.runners.base import (
    CHECK_SECONDS,
    STOP_GRACE_SECONDS,
    Check,
    ContainerImage,
    Exit,
    FoundMap,
    LineSplitter,
    MapJob,
    OnLine,
    Runner,
)
from airflow_monai.maps.runners.docker.config import container_config, has_cards
from airflow_monai.maps.runners.docker.engine import Engine
from airflow_monai.maps.runners.docker.image import as_container, get_image
from airflow_monai.maps.runners.docker.manifest import found_map
from airflow_monai.maps.runners.docker.usage import ContainerUsage
from airflow_monai.maps.runners.log_thread import LOG_END, LogThread
from airflow_monai.maps.runners.place import Place
from airflow_monai.maps.runners.times import time_of
from airflow_monai.maps.runners.user import check_readable, on_host, prepare_output
from airflow_monai.settings import Settings
from airflow_monai.store.base import Store

UNREACHABLE_SECONDS = 60.0
"""A running container survives an engine that is away for so long (an upgrade with live-restore)."""

FOLLOWED_BYTES = MAX_LOG_BYTES
"""What is read of a container's output; the store keeps no more of it."""

OOM_NEWS_SECONDS = 0.5
REMOVAL_SECONDS = 30.0
_NO_GPU_DRIVER = "could not select device driver"


class DockerRunner(Runner):
    """Containers of the engine at ``[monai] docker_url``."""

    name = "docker"

    def __init__(self, settings: Settings, store: Store):
        self.engine = Engine(settings.docker_url, settings.docker_conn_id, settings.docker_tls_folder)
        self.policy = Policy.of(settings)
        self.store = store

    def _place(self, engine: Engine | None = None) -> Place:
        asked = engine or self.engine
        return Place("Docker engine", lambda: [asked.identity()])

    def find(self, reference: str) -> FoundMap:
        found = get_image(self.engine, self.policy, reference, check=self.check)
        return found_map(self.engine, self.store, reference, found)

    def image(self, reference: str, *, always_pull: bool = False) -> ContainerImage:
        found = get_image(self.engine, self.policy, reference, always_pull=always_pull, check=self.check)
        return as_container(reference, found)

    def run(self, job: MapJob, *, on_line: OnLine, check: Check) -> Exit:
        found = self._usable(job)
        status = found["State"]["Status"] if found else None
        if found and status == "created" and not has_cards(found, job):
            # an earlier try died over its creation and lost its lease: these cards may be somebody else's by now
            self.engine.remove(job.name)
            return self.run(job, on_line=on_line, check=check)
        if status is None and not self._create(job, check):
            return self.run(job, on_line=on_line, check=check)  # somebody else was faster: attach to theirs
        if status in (None, "created"):
            check()
            prepare_output(on_host(job, self.engine.info()), empty=True)
            check()
            self._start(job)
            check()  # whoever ended this task meanwhile did not find it running
        waiting = _Waiting(self.engine, job, reattached=status not in (None, "created"))
        return waiting.until_exit(on_line, check)

    def kill(self, job: MapJob) -> None:
        self.engine.fresh().kill(job.name)

    def discard(self, job: MapJob) -> None:
        engine = self.engine.fresh()  # a signal handler may call this while a request of `run` is under way
        container = engine.inspect(job.name)
        if container is None:
            self._place(engine).require_here(job)
        else:
            if container["State"]["Running"]:
                engine.stop(job.name, STOP_GRACE_SECONDS)
            engine.remove(job.name)
        self._place(engine).leave(job)

    def holds(self, name: str, state: Path) -> bool:
        container = self.engine.inspect(name)
        return container is not None and container["State"]["Status"] not in ("exited", "dead")

    def require_here(self, job: MapJob) -> None:
        self._place().require_here(job)

    def discard_other_generations(self, job: MapJob) -> None:
        for container in self.engine.find(job.task_labels):
            if f"/{job.name}" not in container["Names"]:
                self.engine.remove(container["Id"])
        self._place().leave_others(job)

    def _usable(self, job: MapJob) -> dict[str, Any] | None:
        """The job's container if it can still give a verdict; one that is being removed is waited out."""
        deadline = time.monotonic() + REMOVAL_SECONDS
        while True:
            container = self.engine.inspect(job.name)
            if container is None or container["State"]["Status"] not in ("removing", "dead"):
                return container
            if time.monotonic() > deadline:
                raise RunnerUnavailable(f"The Docker engine does not get rid of the container {job.name}.")
            self.engine.remove(job.name)
            time.sleep(0.2)

    def _create(self, job: MapJob, check: Check) -> bool:
        check()
        self._place().enter(job)
        there = on_host(job, self.engine.info())
        check_readable(there)
        prepare_output(there, empty=False)  # a bind mount of a folder that is not there would be refused
        return self.engine.create(job.name, container_config(job, local_engine=self.engine.url.startswith("unix:")))

    def _start(self, job: MapJob) -> None:
        try:
            self.engine.start(job.name)
        except RunnerUnavailable:
            raise
        except MapError as error:
            self.engine.remove(job.name)
            if job.gpus and _NO_GPU_DRIVER in str(error):
                raise MapError(
                    f"The Docker engine at {self.engine.url} can give containers no GPU: it has no driver for them. "
                    "Install the NVIDIA Container Toolkit there and restart it, or run the task without a card "
                    "(`resources: {gpu: 0}`)."
                ) from error
            raise


class _Waiting:
    """Follows one started container: its output line by line, its time limit, its end."""

    def __init__(self, engine: Engine, job: MapJob, *, reattached: bool):
        self.engine = engine
        self.job = job
        self.reattached = reattached
        self.log = _ContainerLog(engine, job.name)
        self.usage = ContainerUsage(engine, job)
        self.begun = time.monotonic()
        self.timed_out = False

    def until_exit(self, on_line: OnLine, check: Check) -> Exit:
        if self.reattached:
            self.begun -= _running_seconds(self._state())
        self.log.start()
        try:
            with self.usage:
                self._drain(on_line, check)
                state = self._ended(check)
        finally:
            self.log.give_up()
        return self._verdict(state)

    def _drain(self, on_line: OnLine, check: Check) -> None:
        """Hand out lines until the log ends, which it does when the container does."""
        next_check = time.monotonic() + CHECK_SECONDS
        while True:
            line = self.log.next(self._time_left())
            if line is LOG_END:
                return
            if line is not None:
                on_line(line)
            self._stop_when_over()
            if time.monotonic() >= next_check:
                check()
                if line is None and self._is_over():
                    return  # engines have been seen to miss the end of a log that is followed
                next_check = time.monotonic() + CHECK_SECONDS

    def _is_over(self) -> bool:
        try:
            return not self._state()["Running"]
        except RunnerUnavailable:
            return False  # the log's reader bears with an engine that is away, and then says so

    def _ended(self, check: Check) -> dict[str, Any]:
        """The state of the ended container; its log may end before it does, for example when it closes its outputs."""
        deadline = time.monotonic() + UNREACHABLE_SECONDS
        while True:
            try:
                if self.engine.wait(self.job.name, max(0.1, min(CHECK_SECONDS, self._time_left()))):
                    return self._state()
                deadline = time.monotonic() + UNREACHABLE_SECONDS
            except RunnerUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)
            check()
            self._stop_when_over()

    def _time_left(self) -> float:
        limit = self.job.timeout_seconds
        if limit is None or self.timed_out:
            return CHECK_SECONDS
        return min(max(0.01, self.begun + limit - time.monotonic()), CHECK_SECONDS)

    def _stop_when_over(self) -> None:
        """Stop the container when its time is over; an engine that is away just then is asked again."""
        limit = self.job.timeout_seconds
        if limit is not None and not self.timed_out and time.monotonic() - self.begun >= limit:
            with contextlib.suppress(RunnerUnavailable):
                self.engine.stop(self.job.name, self.job.confinement.grace_seconds)
                self.timed_out = True

    def _state(self) -> dict[str, Any]:
        container = self.engine.inspect(self.job.name)
        if container is None:
            raise MapInterrupted(f"The container {self.job.name} was removed while it ran.")
        state: dict[str, Any] = container["State"]
        return state

    def _verdict(self, state: dict[str, Any]) -> Exit:
        if state["ExitCode"] == 137 and not state["OOMKilled"] and not self.timed_out:
            time.sleep(OOM_NEWS_SECONDS)  # the engine hears of the exit and of its cause separately
            state = self._state()
        seconds = _running_seconds(state)
        limit = self.job.timeout_seconds
        # an earlier try may have stopped it and died before it could say so
        over = self.reattached and limit is not None and seconds >= limit and state["ExitCode"] in (137, 143)
        oom = bool(state["OOMKilled"]) and state["ExitCode"] != 0
        usage = self.usage.so_far
        if oom:  # it reached its limit, whenever it was looked at last
            peak = max(usage.peak_memory_bytes or 0, self.job.resources.memory_bytes)
            usage = replace(usage, peak_memory_bytes=peak)
        return Exit(
            code=state["ExitCode"],
            oom=oom,
            timed_out=self.timed_out or over,
            seconds=round(seconds, 3),
            reattached=self.reattached,
            usage=usage,
        )


class _ContainerLog(LogThread):
    """A container's output from its first line, read by a thread that bears with an engine that restarts."""

    def __init__(self, engine: Engine, name: str):
        super().__init__()
        self.engine = engine
        self.name = name
        self._splitter = LineSplitter(self._put)
        self._seen = 0

    def _read(self) -> None:
        away_since: float | None = None
        while not self._given_up.is_set():
            before = self._seen
            try:
                self._copy()
                if self._seen >= FOLLOWED_BYTES:
                    self._skip_to_the_end()
                    break
                state = self.engine.fresh().inspect(self.name)
                if state is None or not state["State"]["Running"]:
                    break
            except (OSError, MapError, ValueError) as error:  # requests' and docker's errors are OSErrors
                now = time.monotonic()
                away_since = now if away_since is None or self._seen > before else away_since
                if now - away_since > UNREACHABLE_SECONDS:
                    note = f"[airflow-monai: the log could not be followed further: {type(error).__name__}]"
                    self._splitter.feed(f"\n{note}".encode())
                    break
            else:
                away_since = None
            self._given_up.wait(1.0)
        self._splitter.close()
        self._put(LOG_END)

    def _copy(self) -> None:
        """Take over what has not been seen yet, and what comes, until the engine ends the stream."""
        skip = self._seen
        for chunk in self.engine.second().logs(self.name, stdout=True, stderr=True, stream=True, follow=True):
            fresh = chunk[skip:]
            skip = max(0, skip - len(chunk))
            self._seen += len(fresh)
            self._splitter.feed(fresh)
            if self._seen >= FOLLOWED_BYTES or self._given_up.is_set():
                return

    def _skip_to_the_end(self) -> None:
        """Of a flood only its last lines are read, once there are such: reading all of it would take longer than it."""
        self._splitter.feed(f"\n[airflow-monai: after {self._seen} bytes only the last lines follow]\n".encode())
        engine = self.engine.fresh()
        while not self._given_up.wait(1.0):
            state = engine.inspect(self.name)
            if state is None or not state["State"]["Running"]:
                break
        self._splitter.feed(engine.api.logs(self.name, stdout=True, stderr=True, tail=TAIL_LINES))


def _running_seconds(state: dict[str, Any]) -> float:
    """How long the container has run, by the engine's clock for what has ended."""
    begun = time_of(state["StartedAt"])
    if begun is None:
        return 0.0
    ended = None if state["Running"] else time_of(state["FinishedAt"])
    return max(0.0, ((ended or datetime.now(timezone.utc)) - begun).total_seconds())
