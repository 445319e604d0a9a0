"""Map tasks of registered MAPs: what is run is what was registered, and nothing once it is not any more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_monai.cli.here.maps import run_register, run_unregister
from airflow_monai.maps.registration import Wanted
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.settings import load
from airflow_monai.types import TaskStatus
from tests.fixtures_maps import MAPS_FOLDER
from tests.operators.conftest import Site

on_docker = pytest.mark.parametrize("site", ["docker"], indirect=True)
on_process = pytest.mark.parametrize("site", ["process"], indirect=True)
OUTPUT = [{"name": "all", "type": "Folder"}]


class Null:
    """Takes what a command prints."""

    def write(self, text: str) -> int:
        return len(text)

    def writelines(self, lines: Any) -> None:
        list(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unpacked MAP of the test's own, not below map_path."""
    target = tmp_path / "own" / "noop"
    shutil.copytree(MAPS_FOLDER / "noop", target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def register(target: str | Path, **wanted: Any) -> None:
    assert run_register(load(), str(target), Wanted(**wanted), False, Null()) == 0  # type: ignore[arg-type]


def unregister(label: str) -> None:
    assert run_unregister(load(), label, False, Null()) == 0  # type: ignore[arg-type]


@on_docker
def test_a_tag_that_was_moved_does_not_change_what_runs(site: Site) -> None:
    import docker

    engine = docker.from_env()
    tag = f"monai-test-registered-{os.getpid()}:1.0.0"
    try:
        engine.images.get("noop:1.0.0").tag(tag)
        register(tag)
        engine.images.get("lung-seg:1.0.0").tag(tag)  # somebody builds another one under the same tag
        record = site.run(**site.arguments(map=tag, outputs=OUTPUT))
        assert record.stats["location"] == engine.images.get("noop:1.0.0").id
        assert "noop: mode ok" in site.log()
    finally:
        engine.images.remove(tag, force=True)
        engine.close()


@on_process
def test_a_folder_runs_only_as_long_as_it_is_what_was_registered(site: Site, folder: Path) -> None:
    register(folder, name="mine", version="1")
    registry = MapRegistry(site.folder.store)
    assert not registry.is_used("mine", "1")
    record = site.run(**site.arguments(map="mine:1", outputs=OUTPUT))
    assert record.stats["location"] == str(folder)
    assert registry.is_used("mine", "1")
    (folder / "app" / "more.py").write_text("x = 1\n")
    with pytest.raises(AirflowFailException, match=r"has changed since it was registered.*new version"):
        site.run(**site.arguments(map="mine:1", outputs=OUTPUT), try_number=2, cleared=1)


@on_process
def test_nothing_starts_once_it_is_unregistered_and_nobody_tries_again(site: Site, folder: Path) -> None:
    register(folder, name="mine", version="1")
    unregister("mine:1")
    with pytest.raises(AirflowFailException, match=r"mine:1 was unregistered at .*Register it again"):
        site.run(**site.arguments(map="mine:1", outputs=OUTPUT, retries=3))
    record = site.record()
    assert record.status is TaskStatus.FAILED and record.stats["error_kind"] == "not_found"
    assert site.traces() == []


@on_process
def test_what_had_begun_goes_on_after_its_worker_died(site: Site, folder: Path) -> None:
    register(folder, name="mine", version="1")
    arguments = site.arguments(seconds=4, map="mine:1", outputs=OUTPUT, retries=1)
    worker, pid = site.worker(arguments)
    _wait_until_running(site)
    unregister("mine:1")
    worker.kill()
    _kill(pid)
    record = site.run(**arguments, try_number=2)
    assert record.status is TaskStatus.SUCCEEDED and record.stats["reattached"] is True
    with pytest.raises(AirflowFailException, match="was unregistered"):  # cleared: that would be a new job
        site.run(**arguments, try_number=3, cleared=2)


@on_process
def test_a_runner_that_cannot_run_what_is_registered_says_so(site: Site, folder: Path) -> None:
    from tests.maps.registered import image_map

    MapRegistry(site.folder.store).register(image_map("lung", "1"))
    with pytest.raises(AirflowFailException, match=r"lung:1 is the image .*the process runner runs folders"):
        site.run(**site.arguments(map="lung:1"))


def _wait_until_running(site: Site) -> None:
    import time

    for _ in range(1800):
        if site.output().with_name("g1.run").joinpath("pid.json").exists():
            return
        time.sleep(0.05)
    raise AssertionError("it does not start")


def _kill(pid: int) -> None:
    import signal

    os.kill(pid, signal.SIGKILL)
