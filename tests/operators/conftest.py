"""Sites for map tasks: a store, a runner, and what a test wants to know of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.operators.map import MapOperator
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord
from tests.conftest import require
from tests.fixtures_maps import MAPS_FOLDER, map_images  # noqa: F401
from tests.operators.made_maps import MapMaker, containers_of
from tests.operators.map_tasks import STUDY, context_of, make_payload, run_folder


@dataclass
class Site:
    """A store with one payload, a runner, and map tasks over them."""

    runner: str
    store: str
    payload_id: str
    maker: MapMaker
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def folder(self) -> RunFolder:
        return run_folder(self.store, self.payload_id)

    def arguments(self, mode: str = "ok", seconds: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Arguments of a MapOperator that runs the quick sample MAP."""
        environment = {"NOOP_MODE": mode} | ({} if seconds is None else {"NOOP_SECONDS": str(seconds)})
        common = {"task_id": "segment", "map": "noop:1.0.0", "runner": self.runner, "inputs": [STUDY]}
        return {**common, "environment": environment, **arguments}

    def run(self, *, try_number: int = 1, cleared: int = 0, clears: int | None = None, **arguments: Any) -> TaskRecord:
        """Run a map task in this process; its record."""
        operator = MapOperator(**arguments)
        context = context_of(operator, self.payload_id, try_number=try_number, cleared=cleared, clears=clears)
        operator.execute(context)
        return self.record()

    def record(self) -> TaskRecord:
        record = self.folder.record("segment")
        assert record is not None
        return record

    def log(self, generation: int = 1) -> str:
        return self.folder.store.read(self.folder.log_key("segment", -1, generation)).decode()

    def output(self, generation: int = 1) -> Path:
        path = self.folder.store.local_path(self.folder.output_key("segment", -1, generation))
        assert path is not None
        return path

    def worker(self, arguments: dict[str, Any], *, try_number: int = 1) -> tuple[subprocess.Popen[str], int]:
        """Run the task in a worker process of its own; that process and the id of the task process."""
        command = [sys.executable, "-m", "tests.operators.map_tasks", self.store, self.payload_id]
        command += [json.dumps(arguments), str(try_number)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.workers.append(worker)
        assert worker.stdout is not None
        return worker, int(worker.stdout.readline())

    def traces(self) -> list[str]:
        """What exists of the tasks' applications: containers, or state folders of processes."""
        folders = [path.name for path in self.output().parent.glob("g*.*") if path.suffix in (".run", ".in", ".place")]
        return folders + (containers_of(self.store) if self.runner == "docker" else [])


@pytest.fixture(params=["docker", "process"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """One for each runner; at the end nothing of it is left running."""
    runner = request.param
    require("docker" if runner == "docker" else "bubblewrap")
    if runner == "docker":
        request.getfixturevalue("map_images")
    store = str(tmp_path / "store")
    made = tmp_path / "maps"
    for option, value in {
        "STORE": store,
        "RUNNER": runner,
        "MAP_PATH": os.pathsep.join((str(MAPS_FOLDER), str(made))),
        "TASK_LOG": "filtered",
        "IMAGE_PULL": "never",
        "STOP_GRACE_SECONDS": "1",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__MONAI__{option}", value)
    site = Site(runner, store, make_payload(store), MapMaker(runner, made))
    yield site
    for worker in site.workers:
        worker.kill()
        worker.wait()
    site.maker.clean()
    assert site.traces() == []
