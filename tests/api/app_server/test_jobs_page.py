"""docs/app-server.md: its commands about MAPs, jobs and results do what it says. What scheduler and worker do, the
scene does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.local.stack import project_folder
from airflow_monai.maps.registry import MapRegistry
from airflow_monai.store.local import LocalStore
from tests.api.app_server import job_scene
from tests.api.app_server.conftest import Served
from tests.api.app_server.test_page import PAGE, commands
from tests.conftest import require


def test_the_commands_about_jobs(
    served: Served, site_store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("curl")
    shutil.copytree(project_folder() / "examples" / "maps" / "noop", tmp_path / "maps" / "noop")
    monkeypatch.setenv("AIRFLOW__MONAI__MAP_PATH", str(tmp_path / "maps"))
    monkeypatch.setenv("AIRFLOW__MONAI__RUNNER", "process")
    env = {
        **os.environ,
        "USER_AND_PASSWORD": "op:op",
        "MONAI": f"http://127.0.0.1:{served.port}/app-server",
        "no_proxy": "*",
        "ID": job_scene.dataset(site_store),
    }

    def answers(heading: str) -> list[Any]:
        script = "set -e\n" + commands(heading).replace("curl -su", "curl --fail-with-body -w '\\n' -su")
        script += '\necho "{\\"job\\": \\"$JOB\\"}"'
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    registered, listed, described, _ = answers("MAPs")
    assert registered["map"] == listed["maps"][0]["map"] == described["map"] == "noop:1.0.0"
    record = MapRegistry(site_store).of_label("noop:1.0.0")
    assert record is not None
    job_scene.parse(record)
    started, told, job = answers("Jobs")
    assert started["jobs"][0]["id"] == told["id"] == job["job"] and told["status"] == "QUEUED"
    env["JOB"] = told["id"]
    job_scene.finish(site_store, told)
    results, finalized, _ = answers("Results")
    assert results["total"] == 2 and finalized["id"] == told["id"]
    assert len(zipfile.ZipFile(tmp_path / "results.zip").namelist()) == 2
    assert (tmp_path / "first.dcm").read_bytes() == b"segmentation" and (tmp_path / "log.txt").stat().st_size


def test_the_page_has_every_route() -> None:
    from airflow_monai.api.app_server import jobs, maps, results

    table = re.findall(r"^\| `([A-Z]+) (/\S*?)(?:\?\S*)?` ", PAGE, re.MULTILINE)
    for router in (jobs.router, maps.router, results.router):
        for route in router.routes:
            path = route.path.removeprefix("/app-server")  # type: ignore[attr-defined]
            for method in route.methods:  # type: ignore[attr-defined]
                assert (method, path) in table
