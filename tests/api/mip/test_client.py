"""The one-file client as its user runs it: a program of its own, against the app behind a real socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import uvicorn
from fastapi.testclient import TestClient

from airflow_monai.store.local import LocalStore
from tests.api import airflow_rows
from tests.api.mip import scene


@pytest.fixture
def server(api: Callable[[str | None], TestClient], site_store: LocalStore, tmp_path: Path) -> Iterator[str]:
    """Address of the app, as it is below /monai of Airflow's API server."""
    (tmp_path / "workflows" / "chain.yaml").write_text(scene.SPEC)
    airflow_rows.parse(scene.SPEC)
    running = uvicorn.Server(uvicorn.Config(api(None).app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 90
    while not running.started and time.monotonic() < deadline:
        time.sleep(0.02)
    (listener,) = running.servers
    yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mip"
    running.should_exit = True
    thread.join(60)


@pytest.fixture
def program(server: str, tmp_path: Path) -> Path:
    """The client as the server hands it out."""
    answer = requests.get(f"{server}/mip_client.py", auth=("op", "op"), timeout=60)
    assert answer.status_code == 200
    path = tmp_path / "mip_client.py"
    path.write_bytes(answer.content)
    return path


def client(
    program: Path, *words: str, code: int = 0, user: str = "op", password: str = "op"
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "MIP_USER": user, "MIP_PASSWORD": password}
    done = subprocess.run(
        [sys.executable, str(program), *words], env=env, cwd=program.parent, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_job_from_its_submission_to_its_outputs(program: Path, server: str, site_store: LocalStore) -> None:
    payload_id, folder = scene.dataset(site_store), program.parent
    (folder / "a.json").write_text(json.dumps({"job": "alpha", "modules": ["a"], "map": "PEACH"}))
    done = client(program, "--post", "--url", f"{server}/runs", "--input", "a.json", "--output", "b.json")
    assert json.loads(done.stdout) == json.loads((folder / "b.json").read_text())
    run_id = json.loads(done.stdout)["run_id"]
    scene.work(site_store, payload_id, run_id)
    done = client(program, "--get", "--url", f"{server}/runs/{run_id}")
    assert json.loads(done.stdout)["status"] == "passed"
    done = client(program, "--get", "--url", f"{server}/modules/alpha/a/outputs", "--output", "e.zip")
    assert "e.zip" in done.stdout
    with zipfile.ZipFile(folder / "e.zip") as archive:
        assert archive.namelist() == ["result/one.txt"]


def test_its_exit_codes(program: Path, server: str, free_port: int) -> None:
    (program.parent / "a.json").write_text('{"job": "alpha", "modules": [], "map": "PEACH"}')
    (program.parent / "bad.json").write_text("{")
    post = ("--post", "--url", f"{server}/runs", "--input")
    refused = client(program, *post, "a.json", code=1)
    assert "400" in refused.stderr and "body.modules" in refused.stderr
    assert "404" in client(program, "--get", "--url", f"{server}/runs/none-1", "--output", "x.json", code=1).stderr
    assert not (program.parent / "x.json").exists()
    assert "401" in client(program, "--get", "--url", f"{server}/runs", code=1, password="wrong").stderr
    assert "MIP_USER" in client(program, "--get", "--url", f"{server}/runs", code=1, user="").stderr
    client(program, *post, "bad.json", code=2)
    client(program, *post, "missing.json", code=2)
    client(program, "--post", "--url", f"{server}/runs", code=2)
    client(program, "--get", "--post", "--url", f"{server}/runs", code=2)
    client(program, "--get", "--url", "no address", code=2)
    client(program, "--get", "--url", f"http://127.0.0.1:{free_port}/mip/runs", code=3)
    client(program, "--get", "--url", f"{server}/runs", "--output", "/no/such/folder/x.json", code=4)


def test_it_needs_nothing_but_requests(program: Path) -> None:
    import ast

    imported = {
        name.name.split(".")[0] if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(program.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    assert imported - set(sys.stdlib_module_names) == {"requests"}
