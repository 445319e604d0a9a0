"""The docker runner's own decisions, against an engine that a test scripts; the real one is in the operators' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import MapInterrupted, RunnerUnavailable
from airflow_monai.maps.runners.base import MapJob
from airflow_monai.maps.runners.docker import DockerRunner
from airflow_monai.settings import Settings
from airflow_monai.store import open_store
from tests.maps.test_process import job


class ScriptedEngine:
    """Holds containers in memory."""

    def __init__(self, identity: str = "ONE"):
        self.url = "unix:///nowhere"
        self.identity = identity
        self.containers: dict[str, str] = {}
        self.calls: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}

    def fresh(self) -> ScriptedEngine:
        return self

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.at.pop(name, lambda: None)()

    def inspect(self, name: str) -> dict[str, Any] | None:
        status = self.containers.get(name)
        return status and {"State": {"Status": status, "Running": status == "running"}}  # type: ignore[return-value]

    def create(self, name: str, config: Any) -> bool:
        self._call("create")
        self.containers[name] = "created"
        return True

    def start(self, name: str) -> None:
        self._call("start")
        self.containers[name] = "running"

    def second(self) -> Any:
        self._call("follow")
        raise RunnerUnavailable("nothing to follow")

    def stop(self, name: str, grace: int) -> None:
        self._call("stop")

    def remove(self, name: str) -> None:
        self._call("remove")
        self.containers.pop(name, None)


class Stop:
    """A check that a test can turn."""

    asked = False

    def __call__(self) -> None:
        if self.asked:
            raise MapInterrupted("ended")

    def ask(self) -> None:
        self.asked = True


def runner_on(engine: ScriptedEngine, tmp_path: Path) -> DockerRunner:
    site = Settings("s", "w", "docker", (), "", "unix:///nowhere", "", "", "", 0, 0.0, "filtered")
    runner = DockerRunner(site, open_store(str(tmp_path / "store")))
    runner.engine = engine  # type: ignore[assignment]
    return runner


@pytest.fixture
def wanted(tmp_path: Path) -> MapJob:
    return job(tmp_path, "")


@pytest.mark.parametrize(("step", "done"), [("create", ["create"]), ("start", ["create", "start"])])
def test_ended_while_it_is_being_started(step: str, done: list[str], wanted: MapJob, tmp_path: Path) -> None:
    engine, stop = ScriptedEngine(), Stop()
    runner = runner_on(engine, tmp_path)
    engine.at[step] = stop.ask
    with pytest.raises(MapInterrupted):
        runner.run(wanted, on_line=lambda _: None, check=stop)
    assert engine.calls == done
    runner.discard(wanted)
    assert engine.containers == {}
