"""Airflow ends a task with SIGTERM: its handler calls on_kill, then the task's main thread goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.errors import Fenced, LeaseError, MapInterrupted, RunnerUnavailable
from airflow_monai.maps.manifest import parse_manifest
from airflow_monai.maps.runners.base import Check, Exit, FoundMap, MapJob, Runner
from airflow_monai.maps.runners.lines import OnLine
from airflow_monai.operators.map import MapOperator
from airflow_monai.store.runs import Fence
from tests.operators.map_tasks import STUDY, context_of, make_payload, run_folder


class Recorder(Runner):
    """Starts nothing; says what it was asked for, and lets a test act at each step."""

    name = "recorder"

    def __init__(self, at: dict[str, Callable[[], None]]):
        self.at = at
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.at.pop(name, lambda: None)()

    def find(self, reference: str) -> FoundMap:
        self._call("find")
        return FoundMap(reference, "here", parse_manifest(b'{"command": "true"}', b"{}", where="made"))

    def run(self, job: MapJob, *, on_line: OnLine, check: Check) -> Exit:
        check()
        self._call("start")
        check()
        job.output.mkdir(parents=True)
        return Exit(0)

    def discard(self, job: MapJob) -> None:
        self._call("discard")

    def holds(self, name: str, state: Path) -> bool:
        return "start" in self.calls and "discard" not in self.calls

    def discard_other_generations(self, job: MapJob) -> None:
        self._call("discard others")


@pytest.fixture
def payload_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    return make_payload(str(tmp_path / "store"), slices=1)


def ended_at(step: str, payload_id: str, monkeypatch: pytest.MonkeyPatch, also: Callable[[], None]) -> Recorder:
    """What the runner was asked for when the task is ended during ``step``."""
    operator = MapOperator(task_id="segment", map="made:1", inputs=[STUDY], retries=3)

    def end() -> None:
        operator.on_kill()
        also()

    runner = Recorder({step: end})
    monkeypatch.setattr("airflow_monai.maps.runners.create_runner", lambda *_: runner)
    context: Any = context_of(operator, payload_id)
    with pytest.raises((MapInterrupted, RunnerUnavailable, Fenced)):
        operator.execute(context)
    return runner


def nothing() -> None:
    """Nothing more happens."""


def test_nothing_is_started_after_it(payload_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "start" not in ended_at("find", payload_id, monkeypatch, nothing).calls


def test_what_was_being_started_is_removed_once_it_is_there(payload_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """on_kill comes too early to find it."""
    assert ended_at("start", payload_id, monkeypatch, nothing).calls == ["find", "start", "discard", "discard"]


def test_also_when_the_engine_then_goes_away(payload_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise RunnerUnavailable("gone")

    assert ended_at("start", payload_id, monkeypatch, unreachable).calls == ["find", "start", "discard", "discard"]


def test_what_a_newer_try_has_taken_over_is_left_alone(
    payload_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fence = Fence(run_folder(str(tmp_path / "store"), payload_id), "segment", -1, 2)
    runner = ended_at("start", payload_id, monkeypatch, lambda: fence.claim() and None)
    assert runner.calls == ["find", "start", "discard"]


def test_what_cannot_be_cleaned_up_does_not_change_what_became_of_the_task(
    payload_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale() -> None:
        raise OSError("stale file handle")

    runner = Recorder({"discard": stale})
    monkeypatch.setattr("airflow_monai.maps.runners.create_runner", lambda *_: runner)
    operator = MapOperator(task_id="segment", map="made:1", inputs=[STUDY])
    context: Any = context_of(operator, payload_id)
    assert operator.execute(context)["exit_code"] == 0
    assert runner.calls == ["find", "start", "discard"]


def test_a_trouble_with_leases_leaves_a_running_application_to_the_next_try(
    payload_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_leases(*_: Any) -> None:
        raise LeaseError("the disk is full")

    runner = Recorder({})
    monkeypatch.setattr("airflow_monai.maps.runners.create_runner", lambda *_: runner)
    operator = MapOperator(task_id="segment", map="made:1", inputs=[STUDY], retries=3)
    monkeypatch.setattr(operator, "_with_cards", no_leases)
    context: Any = context_of(operator, payload_id)
    with pytest.raises(LeaseError):
        operator.execute(context)
    assert runner.calls == ["find"]
