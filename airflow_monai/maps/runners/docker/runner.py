"""Runs a MAP in a container of a Docker engine.

The engine keeps the container when the worker dies, so a new try finds it by its name: it follows one that runs, takes
the verdict of one that has ended, and starts one that was only created.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from airflow_monai.errors import MapError, MapInterrupted, MapNotStopped, RunnerUnavailable
from airflow_monai.maps.job import store_label
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.runners.base import (
    CHECK_SECONDS,
    READER_SECONDS,
    STOP_GRACE_SECONDS,
    Check,
    ContainerImage,
    Exit,
    FoundMap,
    MapJob,
    Runner,
    Trace,
)
from airflow_monai.maps.runners.docker.clear import clear_output
from airflow_monai.maps.runners.docker.config import container_config, is_made_for
from airflow_monai.maps.runners.docker.engine import Engine
from airflow_monai.maps.runners.docker.image import as_container, check_image, get_image
from airflow_monai.maps.runners.docker.log import ContainerLog
from airflow_monai.maps.runners.docker.manifest import found_map, is_reader
from airflow_monai.maps.runners.docker.usage import ContainerUsage
from airflow_monai.maps.runners.lines import OnLine
from airflow_monai.maps.runners.log_thread import LOG_END
from airflow_monai.maps.runners.place import Place
from airflow_monai.maps.runners.times import time_of
from airflow_monai.maps.runners.user import check_readable, on_host, prepare_output, remove_output
from airflow_monai.settings import Settings
from airflow_monai.store.base import Store

UNREACHABLE_SECONDS = 60.0
"""A running container survives an engine that is away for so long (an upgrade with live-restore)."""

OOM_NEWS_SECONDS = 0.5
REMOVAL_SECONDS = 30.0
GONE_SECONDS = 5.0
"""How long a container may still run after it was removed by force."""

UNSTOPPABLE_SECONDS = 60.0
"""How long one whose time is over may run on beyond its grace."""

ATTEMPTS, ATTEMPT_SECONDS = 5, 0.2
"""How often it is tried to have a container, and how much longer each time the pause before that is."""

_CREATED, _GOING = "created", ("removing", "dead")
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
        return found_map(self.engine, self.store, reference, self._image(reference))

    def image(self, reference: str, *, always_pull: bool = False) -> ContainerImage:
        return as_container(reference, self._image(reference, always_pull=always_pull))

    def _image(self, reference: str, *, always_pull: bool = False) -> dict[str, Any]:
        started = self._started_image()
        if started is not None:
            check_image(self.policy, reference, started)
            return started
        return get_image(self.engine, self.policy, reference, always_pull=always_pull, check=self.check)

    def _started_image(self) -> dict[str, Any] | None:
        """The image of the container that an earlier try has started for the job; None where there is none."""
        container = self.engine.inspect(self.for_job.name) if self.for_job else None
        if container is None or container["State"]["Status"] in (_CREATED, *_GOING):
            return None
        return self.engine.image(container["Image"])

    def run(self, job: MapJob, *, on_line: OnLine, check: Check) -> Exit:
        reattached = self._has_started(job, check)
        if not reattached:
            check()
            prepare_output(on_host(job, self.engine.info()), empty=True, clear=partial(self._clear, job))
            check()
            self._start(job)
        self.begun()
        if not reattached:
            check()  # whoever ended this task meanwhile did not find it running
        return _Waiting(self.engine, job, reattached=reattached).until_exit(on_line, check)

    def _has_started(self, job: MapJob, check: Check) -> bool:
        """Have a container for the job; whether it is one that has been started before."""
        for attempt in range(ATTEMPTS):
            time.sleep(attempt * ATTEMPT_SECONDS)
            found = self._usable(job)
            if found is None:
                if self._create(job, check):
                    return False
                continue  # somebody else was faster: attach to theirs
            if found["State"]["Status"] != _CREATED:
                return True
            if is_made_for(found, job):
                return False
            # an earlier try died over its creation. It lost its lease, so these cards may be somebody else's by now,
            # and its image may be an older one
            self.engine.remove(job.name)
        raise RunnerUnavailable(
            f"The Docker engine at {self.engine.url} says of the container {job.name} that it is there when it is to "
            "be made, and that it is not when it is looked for. Restart the engine, which puts its own list right; a "
            "retry goes on then."
        )

    def _clear(self, job: MapJob) -> None:
        clear_output(self.engine, job, store_label(self.store))

    def remove_output(self, job: MapJob) -> None:
        remove_output(job, partial(self._clear, job))

    def kill(self, job: MapJob) -> None:
        self.engine.fresh().kill(job.name)

    def discard(self, job: MapJob) -> None:
        engine = self.engine.fresh()  # a signal handler may call this while a request of `run` is under way
        container = engine.inspect(job.name)
        if container is None:
            self._place(engine).require_here(job)
        else:
            if container["State"]["Running"]:
                with contextlib.suppress(MapError):  # removing it ends it too, and says so if it cannot
                    engine.stop(job.name, STOP_GRACE_SECONDS)
            self._remove(engine, job.name)
        self._place(engine).leave(job)

    def _remove(self, engine: Engine, name: str) -> None:
        """Remove a container for good.

        :raises RunnerUnavailable: when it is still there, and may still use what it was given.
        """
        engine.remove(name)
        deadline = time.monotonic() + GONE_SECONDS
        while (container := engine.inspect(name)) is not None and container["State"]["Running"]:
            if time.monotonic() > deadline:
                raise RunnerUnavailable(f"The Docker engine does not get rid of the container {name}, which runs.")
            time.sleep(0.2)

    def holds(self, name: str, state: Path) -> bool:
        container = self.engine.inspect(name)
        return container is not None and container["State"]["Status"] not in ("exited", "dead")

    def require_here(self, job: MapJob) -> None:
        self._place().require_here(job)

    def engine_names(self) -> tuple[str, ...]:
        # by its own id: several ways may lead to one engine, and one way to another engine later
        return f"{self.name} {self.engine.identity()}", f"{self.name} {self.engine.url}"

    def traces(self) -> Iterable[Trace]:
        for container in self.engine.find(store_label(self.store)):
            labels, status = container.get("Labels") or {}, container["State"]
            yield Trace(
                name=container["Names"][0].lstrip("/") if container.get("Names") else container["Id"],
                labels=labels,
                made_at=float(container["Created"]),
                status=status,
                is_unstarted=status == _CREATED,
                reader_seconds=READER_SECONDS if is_reader(labels) else None,
                remove=partial(self._remove, self.engine, container["Id"]),
            )

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
            if container is None or container["State"]["Status"] not in _GOING:
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
        self.log = ContainerLog(engine, job.name, UNREACHABLE_SECONDS)
        self.usage = ContainerUsage(engine, job)
        self.begun = time.monotonic()
        self.timed_out = False
        self._asked_to_stop_at: float | None = None

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
        over_since: float | None = None
        while True:
            line = self.log.next(self._time_left())
            if line is LOG_END:
                return
            if line is not None:
                over_since = None
                on_line(line)
            self._stop_when_over()
            if time.monotonic() >= next_check:
                check()
                self._give_up_unstoppable()
                if line is None and self._is_over():
                    over_since = over_since or time.monotonic()
                    if time.monotonic() - over_since > UNREACHABLE_SECONDS:
                        return  # the engine gives neither more of the log nor its end
                    self.log.container_ended()
                next_check = time.monotonic() + CHECK_SECONDS

    def _is_over(self) -> bool:
        try:
            return not self._state()["Running"]
        except RunnerUnavailable:
            return False  # the log's reader bears with an engine that is away, and then says so

    def _runs(self) -> bool:
        """Whether the engine says so; one that is away says nothing."""
        try:
            return bool(self._state()["Running"])
        except RunnerUnavailable:
            return False

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
            self._give_up_unstoppable()

    def _time_left(self) -> float:
        limit = self.job.timeout_seconds
        if limit is None or self.timed_out:
            return CHECK_SECONDS
        return min(max(0.01, self.begun + limit - time.monotonic()), CHECK_SECONDS)

    def _stop_when_over(self) -> None:
        """Stop the container when its time is over; an engine that is away or refuses just then is asked again."""
        limit = self.job.timeout_seconds
        if limit is not None and not self.timed_out and time.monotonic() - self.begun >= limit:
            self._asked_to_stop_at = self._asked_to_stop_at or time.monotonic()
            with contextlib.suppress(MapError):
                self.engine.stop(self.job.name, self.job.confinement.grace_seconds)
                self.timed_out = True

    def _give_up_unstoppable(self) -> None:
        """Wait no longer for a container that no signal ends, because the kernel or the engine holds it."""
        asked = self._asked_to_stop_at
        patience = self.job.confinement.grace_seconds + UNSTOPPABLE_SECONDS
        if asked is None or time.monotonic() - asked < patience or not self._runs():
            return
        raise MapNotStopped(
            f"{self.job.found.reference} ran longer than its time limit of {self.job.timeout_seconds:g} s, and the "
            f"Docker engine at {self.engine.url} could not end it within {patience:g} s: its container {self.job.name} "
            "still runs, and keeps its card if it has one. Look for a process of it that waits for a device or a file "
            "system (state D in ps); once that is mended, or the host restarted, `airflow monai maps clean` removes "
            "what is left."
        )

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


def _running_seconds(state: dict[str, Any]) -> float:
    """How long the container has run, by the engine's clock for what has ended."""
    begun = time_of(state["StartedAt"])
    if begun is None:
        return 0.0
    ended = None if state["Running"] else time_of(state["FinishedAt"])
    return max(0.0, ((ended or datetime.now(timezone.utc)) - begun).total_seconds())
