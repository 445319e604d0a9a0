"""What happens around an application in the table of failures: people at the engine, registries, files of the host."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_monai.maps.runners import create_runner
from airflow_monai.maps.sweep import nobody_asked
from airflow_monai.operators.sweep import sweep
from airflow_monai.settings import load
from airflow_monai.store.base import Store
from airflow_monai.store.payloads import dicom_key
from tests.maps.refusing import refusing_engine
from tests.operators.made_maps import containers_of
from tests.own_docker import SHELL, OwnEngine
from tests.registry import registry

IMAGE = "noop:1.0.0"
READY = ["/bin/sh", "-c"]
WAITS = ["echo ready; sleep 60"]


@dataclass
class Stage:
    """Where a case is played.

    :param task: arguments of its task, which a scene may change.
    :param afterwards: what is left to be done and checked once the task has ended.
    """

    store: Store
    payload_id: str
    tmp_path: Path
    monkeypatch: pytest.MonkeyPatch
    task: dict[str, Any]
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    def set(self, option: str, value: str) -> None:
        self.monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)


def later(act: Callable[[str], None], name: Callable[[], str | None]) -> threading.Thread:
    """Do something to the task's container once it says that it is ready."""

    def wait_and_act() -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with suppress(Exception):
                found = name()
                if found:
                    act(found)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def _ready(client: docker.APIClient, store: Store) -> str | None:
    for container in containers_of(store.url, running=True):
        if b"ready" in client.logs(container):
            return container
    return None


def _at_the_engine(stage: Stage, act: Callable[[docker.APIClient, str], None]) -> None:
    client = docker.from_env(version="auto").api
    later(lambda name: act(client, name), lambda: _ready(client, stage.store))


@contextmanager
def _paused(stage: Stage) -> Iterator[None]:
    _at_the_engine(stage, lambda client, name: client.pause(name))
    yield


@contextmanager
def _removed(stage: Stage) -> Iterator[None]:
    _at_the_engine(stage, lambda client, name: client.remove_container(name, force=True))
    yield


@contextmanager
def _killed(stage: Stage) -> Iterator[None]:
    _at_the_engine(stage, lambda client, name: client.kill(name))
    yield


@contextmanager
def _changed_image(stage: Stage, **config: str) -> Iterator[None]:
    client = docker.from_env(version="auto")
    container = client.api.create_container(IMAGE)["Id"]
    made = client.api.commit(container, conf=config)["Id"]
    client.api.remove_container(container)
    stage.task["image"] = made
    try:
        yield
    finally:
        client.images.remove(made, force=True)


@contextmanager
def _hiding_entry_point(stage: Stage) -> Iterator[None]:
    kept = {name: stage.task[name] for name in ("task_id", "inputs", "runner")}
    stage.task.clear()
    stage.task.update(kept, map=IMAGE, environment={"NOOP_MODE": "exit7"})
    yield


@contextmanager
def _unstoppable(stage: Stage) -> Iterator[None]:
    stage.monkeypatch.setattr("airflow_monai.maps.runners.docker.runner.UNSTOPPABLE_SECONDS", 1.0)
    with refusing_engine() as url:
        stage.set("DOCKER_URL", url)
        yield
    stage.set("DOCKER_URL", "unix:///var/run/docker.sock")
    runner = create_runner("docker", load(), stage.store)
    (left,) = sweep(stage.store, runner, ask=nobody_asked)  # the host is mended
    assert str(left).endswith("its task is done with it and could not remove it")


@contextmanager
def _out_of_time_over_its_image(stage: Stage) -> Iterator[None]:
    """Airflow's time limit, as Airflow's task runner has it."""

    def over(*_: Any) -> None:
        raise AirflowTaskTimeout

    with registry() as served:
        image = served.publish("tests/slow", os.urandom(2**20), command=["/content"])
        served.seconds = 0.05
        stage.task.update(image=image, execution_timeout=timedelta(seconds=3))
        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, 3)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            served.seconds = 0.0
            _remove_once_pulled(image)


def _remove_once_pulled(image: str) -> None:
    """A pull of this process, which lives on, comes to its end."""
    client = docker.from_env(version="auto")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with suppress(docker.errors.ImageNotFound):
            client.images.remove(image, force=True)
            return
        time.sleep(0.1)


def _store_as_mount(stage: Stage) -> None:
    stage.task["sandbox"] = {"mounts": f"{stage.store.url}/payloads:/all"}


def _host_paths(stage: Stage) -> None:
    paths = ["/var/run/docker.sock", "/run/docker.sock", stage.store.url, f"{stage.store.url}/payloads"]
    stage.task["environment"] = {"PLANTED": ":".join(paths)}


@contextmanager
def _registry(stage: Stage, kind: str) -> Iterator[None]:
    with registry() as served:
        image = served.publish("tests/served", b"x", command=["/content"])
        if kind == "unknown":
            image = f"127.0.0.1:{served.port}/no/such:1"
        elif kind != "no program":
            served.answers["tests/served"] = {"denied": 403, "broken": 503}[kind]
        stage.task.update(image=image, entrypoint=None, command=None)
        yield
        client = docker.from_env(version="auto")
        with suppress(docker.errors.ImageNotFound):
            client.images.remove(image, force=True)


def _closed(stage: Stage, path: Path) -> None:
    mode = path.stat().st_mode & 0o7777
    path.chmod(mode & 0o700)
    stage.afterwards.append(lambda: path.chmod(mode))


def _study(stage: Stage) -> Path:
    path = stage.store.local_path(dicom_key(stage.payload_id))
    assert path is not None
    return path


def _root_squash(stage: Stage) -> None:
    """As an NFS server does: root may not give files away."""

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    stage.monkeypatch.setattr(os, "chown", refused)


@contextmanager
def _own_engine(stage: Stage, what: str) -> Iterator[None]:
    engine = OwnEngine(Path(tempfile.mkdtemp(prefix="engine-")))  # paths of sockets are short
    try:
        engine.start()
        engine.load_shell()
        stage.set("DOCKER_URL", engine.url)
        stage.task.update(image=SHELL, entrypoint=READY, command=WAITS)
        stays_away = what == "stopped"
        stage.monkeypatch.setattr(
            "airflow_monai.maps.runners.docker.runner.UNREACHABLE_SECONDS", 2.0 if stays_away else 180.0
        )
        client = engine.client()

        def ready() -> str | None:
            names = [item["Names"][0].lstrip("/") for item in client.containers()]
            return next((name for name in names if b"ready" in client.logs(name)), None)

        def act(_: str) -> None:
            (engine.kill if what == "killed" else engine.stop)()
            if not stays_away:
                engine.start()

        actor = later(act, ready)
        yield
        actor.join(180)  # what it starts must be there to be removed
        if stays_away:
            engine.start()
            stage.afterwards.append(lambda: None)
        stage.task["engine"] = engine
    finally:
        stage.afterwards.append(engine.remove)


SCENES: Mapping[str, Callable[[Stage], Any]] = {
    "paused": _paused,
    "unstoppable": _unstoppable,
    "out of time over its image": _out_of_time_over_its_image,
    "removed": _removed,
    "killed": _killed,
    "no working directory": partial(_changed_image, WorkingDir="/no/such"),
    "file as working directory": partial(_changed_image, WorkingDir="/etc/passwd"),
    "stop signal": partial(_changed_image, StopSignal="SIGUSR1"),
    "hiding entry point": _hiding_entry_point,
    "store as mount": _store_as_mount,
    "host paths": _host_paths,
    "closed input": lambda stage: _closed(stage, _study(stage)),
    "closed file": lambda stage: _closed(stage, next(_study(stage).rglob("*.dcm"))),
    "root squash": _root_squash,
    **{f"registry: {kind}": partial(_registry, kind=kind) for kind in ("unknown", "denied", "broken", "no program")},
    **{f"own engine: {what}": partial(_own_engine, what=what) for what in ("stopped", "restarted", "killed")},
}
