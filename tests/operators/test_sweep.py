"""What workers leave behind when they die on a task's last try, and that it is removed, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from airflow_monai.cli.standalone import main
from airflow_monai.gpu.lease_folder import LeaseFolder
from airflow_monai.gpu.lease_state import Lease
from airflow_monai.maps import following
from airflow_monai.maps import sweep as module
from airflow_monai.maps.runners import create_runner
from airflow_monai.maps.sweep import Task, TaskState
from airflow_monai.operators import sweep as operators_sweep
from airflow_monai.operators.base import task_run_from
from airflow_monai.operators.map import MapOperator
from airflow_monai.operators.sweep import is_due, state_told_to_a_task, sweep, sweep_now_and_then
from airflow_monai.settings import load
from airflow_monai.store.runs import Fence
from airflow_monai.tasks.run import TaskRun
from tests.operators.conftest import Site
from tests.operators.map_tasks import context_of


class Died(Exception):
    """Ends this process's part in a task as the death of its worker would: nothing is cleaned up."""


@pytest.fixture
def run(site: Site) -> TaskRun:
    """The first try of a task."""
    return task_run_from(context_of(MapOperator(**wanted(site)), site.payload_id)).claimed()


@pytest.fixture
def left(site: Site, run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with an application that runs for a minute at most, whose worker has died."""
    runner, job = MapOperator(**wanted(site))._prepare(run)

    def die() -> None:
        raise Died

    runner.begun = die
    with pytest.raises(Died):
        runner.run(job, on_line=lambda _: None, check=lambda: None)
    deadline = time.monotonic() + 90
    while not list(runner.traces()):  # what keeps a process takes a moment to begin
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return site


def wanted(site: Site) -> dict[str, Any]:
    return site.arguments(seconds=50, timeout_minutes=1)


def swept(site: Site, state: TaskState = TaskState.UNKNOWN, **options: Any) -> list[str]:
    """What was done, with what was asked of Airflow."""
    runner = create_runner(site.runner, load(), site.folder.store)
    done = sweep(site.folder.store, runner, ask=lambda task: _checked(site, task, state), **options)
    return [f"{'removed' if item.is_over and not item.problem else 'kept'}: {item.why}" for item in done]


def _checked(site: Site, task: Task, state: TaskState) -> TaskState:
    folder = site.folder
    assert task == Task(folder.payload_id, folder.dag_id, folder.run_id, "segment", -1, 1)
    return state


def traces(site: Site) -> list[str]:
    return [name for name in site.traces() if not name.endswith(".place")]


def test_what_the_last_try_left_is_removed_once_airflow_says_that_it_is_over(left: Site) -> None:
    assert swept(left, TaskState.OPEN) == ["kept: its task has not ended, says Airflow"]
    assert traces(left)
    assert swept(left, TaskState.OVER, dry_run=True) == ["removed: its task has ended, says Airflow"]
    assert traces(left)
    assert swept(left, TaskState.OVER) == ["removed: its task has ended, says Airflow"]
    assert left.traces() == []
    assert swept(left, TaskState.OVER) == []


def test_what_a_living_try_follows_is_never_touched(left: Site, run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with following.following(run):
        assert swept(left, TaskState.OVER) == ["kept: a try of its task follows it"]
        monkeypatch.setattr(following, "FRESH_SECONDS", 0.0)  # its process was killed a while ago
        assert swept(left, TaskState.OVER) == ["removed: its task has ended, says Airflow"]


def test_where_nobody_can_be_asked_the_time_limit_decides(left: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = swept(left)
    assert told.startswith("kept: no try of its task lives, but one may follow")
    now = time.time()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now + 3600 + 75, monotonic=time.monotonic))
    assert swept(left) == ["removed: its time is long over, and no try of its task lives"]
    assert left.traces() == []


def test_one_of_a_task_that_was_cleared_is_removed(left: Site) -> None:
    Fence(left.folder, "segment", -1, 2).claim(generation=2)
    assert swept(left, TaskState.OPEN) == ["removed: its task was cleared and has begun anew"]
    assert left.traces() == []


def test_one_that_its_task_could_not_remove_is_removed_by_others(left: Site) -> None:
    note = left.folder.note_key("segment", -1, 1, "let_go")
    left.folder.store.write_json(note, {"try_number": 1})
    assert swept(left, TaskState.OPEN) == ["removed: its task is done with it and could not remove it"]
    assert not left.folder.store.exists(note)


def test_what_a_store_does_not_know_is_not_taken_for_left_behind(
    left: Site, run: TaskRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is not mounted on this host, or another has its name: there a try may follow it."""
    left.folder.store.delete_tree(f"{left.folder.task_key('segment')}/fences")
    now = time.time()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now + 3610, monotonic=time.monotonic))
    assert swept(left, TaskState.OPEN)[0].startswith("kept: the store here knows nothing of its task")
    assert swept(left) == ["kept: the store knows nothing of its task any more, and its time is not over"]
    assert traces(left)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now + 3675, monotonic=time.monotonic))
    assert swept(left) == ["removed: the store knows nothing of its task any more, and its time is over"]
    assert traces(left) == []


def test_another_try_takes_back_what_was_let_go(left: Site) -> None:
    left.folder.store.write_json(left.folder.note_key("segment", -1, 1, "let_go"), {"try_number": 1})
    Fence(left.folder, "segment", -1, 2).claim()
    assert swept(left, TaskState.OPEN) == ["kept: its task has not ended, says Airflow"]
    swept(left, TaskState.OVER)


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_the_cards_of_what_is_removed_are_given_back(
    left: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MONAI__GPU_LEASE_FOLDER", str(tmp_path / "leases"))
    folder = LeaseFolder(tmp_path / "leases")
    (name,) = [name for name in traces(left) if name.startswith("monai-")]
    with folder.change() as change:
        engine = create_runner("docker", load(), left.folder.store).engine_names()[0]
        lease = Lease(name, ("GPU-1",), 4, 1, 20, "1-dead", 1, engine, str(left.output().with_name("g1.run")))
        change.state = change.state.with_lease(lease)
    assert operators_sweep.free_unused_cards() == [], "it runs, and may use its card"
    swept(left, TaskState.OVER)
    assert folder.read().leases == ()


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_containers_that_were_only_made(left: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's that was never started, one that manifests were to be read from, one that only looks like ours."""
    import docker

    client = docker.from_env(version="auto")
    (name,) = [name for name in traces(left) if name.startswith("monai-")]
    labels = {key: value for key, value in client.containers.get(name).labels.items() if key != "monai.deadline"}
    client.containers.get(name).remove(force=True)
    client.api.create_container("noop:1.0.0", name=name, labels=labels)
    reader = {"monai.store": labels["monai.store"], "monai.purpose": "manifest"}
    client.api.create_container("noop:1.0.0", name=f"{name}-reader", labels=reader)
    client.api.create_container("noop:1.0.0", name=f"{name}-other", labels=labels)
    try:
        assert sorted(told.partition(":")[0] for told in swept(left)) == ["kept"] * 3
        now = time.time()
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now + 700, monotonic=time.monotonic))
        assert sorted(swept(left)) == [
            "kept: its labels and its name do not belong together: it is none of ours",
            "removed: it was made and never started, and no try of its task lives",
            "removed: it was to read an image's manifests",
        ]
    finally:
        client.api.remove_container(f"{name}-other")
    assert left.traces() == []


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_a_task_sweeps_as_it_starts_and_says_so(left: Site, capfd: pytest.CaptureFixture[str]) -> None:
    Fence(left.folder, "segment", -1, 2).claim(generation=2)
    operator = MapOperator(**left.arguments(task_id="other"))
    operator.execute(context_of(operator, left.payload_id))
    assert "now removed" in "".join(capfd.readouterr())
    assert left.traces() == []


def test_the_command_says_what_it_did(left: Site, capsys: pytest.CaptureFixture[str]) -> None:
    def clean(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["maps", "clean", "--runner", left.runner, *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert "kept: monai-segment-" in clean()
    Fence(left.folder, "segment", -1, 2).claim(generation=2)
    assert "would remove: monai-segment-" in clean("--dry-run")
    (told,) = json.loads(clean("--json"))["applications"]
    assert (told["outcome"], told["why"]) == ("removed", "its task was cleared and has begun anew")
    assert "Nothing of" in clean()


@pytest.mark.parametrize(
    ("states", "index", "meant"),
    [
        ({"r": {"t": "failed"}}, -1, TaskState.OVER),
        ({"r": {"t_3": "success"}}, 3, TaskState.OVER),
        ({"r": {"t": "up_for_retry"}}, -1, TaskState.OPEN),
        ({"r": {"t": None}}, -1, TaskState.OPEN),
        ({}, -1, TaskState.UNKNOWN),
    ],
)
def test_what_airflow_says(states: dict[str, Any], index: int, meant: TaskState) -> None:
    task = Task("p", "d", "r", "t", index, 1)
    assert state_told_to_a_task(SimpleNamespace(get_task_states=lambda **_: states), task) is meant
    assert state_told_to_a_task(SimpleNamespace(), task) is TaskState.UNKNOWN


def test_one_process_of_a_host_does_it_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert is_due("a") and not is_due("a") and is_due("b")
    assert is_due("a", seconds=0)


def test_a_host_on_which_it_would_never_be_anybody_s_turn_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    said: list[str] = []
    store, runner = Mock(identity="s"), Mock()
    sweep_now_and_then(store, runner, Mock(), None, say=said.append, warn=said.append)
    (line,) = said
    assert "Nobody could look for applications that were left behind" in line and "No such file" in line
