"""The docker runner's own decisions, against an engine that a test scripts; the real one is in the operators' tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import MapInterrupted, RunnerUnavailable
from airflow_monai.maps.runners.base import MapJob
from airflow_monai.maps.runners.docker.runner import DockerRunner
from airflow_monai.settings import Settings
from airflow_monai.store import open_store
from tests.maps.test_process import job


class ScriptedEngine:
    """Holds containers in memory."""

    def __init__(self, identity: str = "ONE"):
        self.url = "unix:///nowhere"
        self._identity = identity
        self.containers: dict[str, str] = {}
        self.images: dict[str, str] = {}
        self.is_confused = False
        self.calls: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}

    def info(self) -> dict[str, Any]:
        return {"ID": self._identity}

    def identity(self) -> str:
        return self._identity

    def find(self, labels: Any) -> list[dict[str, Any]]:
        return [{"Id": name, "Names": [f"/{name}"]} for name in self.containers]

    def fresh(self) -> ScriptedEngine:
        return self

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.at.pop(name, lambda: None)()

    def inspect(self, name: str) -> dict[str, Any] | None:
        status = self.containers.get(name)
        if status is None:
            return None
        state = {"Status": status, "Running": status == "running"}
        return {"State": state, "Image": self.images.get(name, ""), "HostConfig": {}}

    def create(self, name: str, config: Any) -> bool:
        self._call("create")
        if self.is_confused:
            return False
        self.containers[name], self.images[name] = "created", config["Image"]
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


def start_and_die(runner: DockerRunner, wanted: MapJob) -> None:
    """As far as a worker gets that is killed while the application runs."""
    with pytest.raises(RunnerUnavailable, match="nothing to follow"):
        runner.run(wanted, on_line=lambda _: None, check=lambda: None)


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """No patience with the log of the scripted engine."""
    monkeypatch.setattr("airflow_monai.maps.runners.docker.runner._Waiting.until_exit", _give_up)


def _give_up(*_: Any) -> None:
    raise RunnerUnavailable("nothing to follow")


def test_another_engine_does_not_start_a_second_copy(dead: None, wanted: MapJob, tmp_path: Path) -> None:
    first, second = ScriptedEngine("ONE"), ScriptedEngine("TWO")
    start_and_die(runner_on(first, tmp_path), wanted)
    there = runner_on(second, tmp_path)
    with pytest.raises(RunnerUnavailable, match=r"another Docker engine.*clear the task"):
        there.run(wanted, on_line=lambda _: None, check=lambda: None)
    with pytest.raises(RunnerUnavailable, match="another Docker engine"):
        there.discard(wanted)  # its folders are still in use
    assert second.calls == []

    start_and_die(runner_on(first, tmp_path), wanted)
    assert first.calls == ["create", "start"], "the next try on the first engine follows it"
    runner_on(first, tmp_path).discard(wanted)
    start_and_die(there, wanted)
    assert second.calls == ["create", "start"], "once it is gone, any engine will do"


def test_the_same_engine_starts_it_again_when_it_was_removed(dead: None, wanted: MapJob, tmp_path: Path) -> None:
    engine = ScriptedEngine()
    start_and_die(runner_on(engine, tmp_path), wanted)
    engine.containers.clear()
    start_and_die(runner_on(engine, tmp_path), wanted)
    assert engine.calls == ["create", "start"] * 2


def test_a_new_generation_may_start_anywhere(dead: None, wanted: MapJob, tmp_path: Path) -> None:
    first, second = ScriptedEngine("ONE"), ScriptedEngine("TWO")
    start_and_die(runner_on(first, tmp_path), wanted)
    next_one = replace(
        wanted, name="other", output=wanted.output.with_name("g2"), state=wanted.state.with_name("g2.run")
    )
    start_and_die(runner_on(second, tmp_path), next_one)
    assert second.containers == {"other": "running"}
    runner_on(first, tmp_path).discard_other_generations(next_one)
    runner_on(second, tmp_path).discard(next_one)
    assert first.containers == {}
    assert list(wanted.state.parent.glob("*.place")) == []


def test_an_engine_at_odds_with_itself_is_not_asked_for_ever(
    wanted: MapJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_monai.maps.runners.docker.runner.ATTEMPT_SECONDS", 0.01)
    engine = ScriptedEngine()
    engine.is_confused = True
    with pytest.raises(RunnerUnavailable, match=r"that it is there when .* Restart the engine"):
        runner_on(engine, tmp_path).run(wanted, on_line=lambda _: None, check=lambda: None)
    assert engine.calls == ["create"] * 5


def test_a_container_of_an_older_image_that_never_started_is_made_anew(
    dead: None, wanted: MapJob, tmp_path: Path
) -> None:
    engine = ScriptedEngine()
    engine.containers[wanted.name], engine.images[wanted.name] = "created", "sha256:older"
    start_and_die(runner_on(engine, tmp_path), wanted)
    assert engine.calls == ["remove", "create", "start"]
    engine.containers[wanted.name] = "created"
    start_and_die(runner_on(engine, tmp_path), wanted)
    assert engine.calls[3:] == ["start"], "one of the same image is used"
