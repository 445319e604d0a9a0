"""A job of the App Server API that is cancelled, on a real Airflow. A whole life is told of in test_walks.py."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from airflow_monai.local.environment import USER
from airflow_monai.local.stack import LocalStack
from tests.e2e.helpers import Maps, containers, make_study


def call(stack: LocalStack, method: str, path: str, **more: Any) -> requests.Response:
    login = (USER, stack.secrets.password)
    return requests.request(method, f"{stack.ui}/monai/app-server{path}", timeout=120, auth=login, **more)


def told(answer: requests.Response, *statuses: int) -> Any:
    assert answer.status_code in (statuses or (200,)), answer.text
    return answer.json() if answer.content else None


def register(stack: LocalStack, maps: Maps, reference: str, name: str) -> str:
    """Register a MAP; its label."""
    where = {"image": reference} if maps.runner == "docker" else {"folder": reference.partition(":")[0]}
    answer = call(stack, "POST", "/maps", json={**where, "name": name, "version": "1.0.0"})
    done = told(answer, 201, 202)
    while answer.status_code == 202 and done["state"] == "running":
        time.sleep(0.5)
        done = told(call(stack, "GET", f"/maps/registrations/{done['id']}"))
    assert done["map"] == f"{name}:1.0.0"
    return str(done["map"])


def start(stack: LocalStack, label: str, dataset: str, key: str) -> str:
    answer = call(stack, "POST", "/jobs", json={"map": label, "dataset": dataset}, headers={"Idempotency-Key": key})
    (job,) = told(answer, 200, 201, 202)["jobs"]
    return str(job["id"])


def upload(stack: LocalStack, folder: Path) -> str:
    """A small study as a dataset; its id."""
    files = [("files", (path.name, path.read_bytes(), "application/dicom")) for path in make_study(folder, "X").files]
    return str(told(call(stack, "POST", "/datasets", files=files), 200, 201)["id"])


class Terminal:
    """What a command writes to a terminal.

    :ivar end: that the command gets.
    """

    def __init__(self) -> None:
        self._ours, self.end = pty.openpty()
        self._text = ""
        os.set_blocking(self._ours, False)

    def shown(self) -> str:
        """All of it, so far."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._ours, 4096):
                self._text += piece.decode()
        return self._text


def test_a_job_that_somebody_waits_for_and_cancels(stack: LocalStack, maps: Maps, tmp_path: Path) -> None:
    """By the commands, as at a terminal. The job is asked for before Airflow has the MAP's DAG."""
    label = register(stack, maps, maps.reference("sleep", "600"), "api-sleep")
    dataset = upload(stack, tmp_path)
    env = {**os.environ, "MONAI_URL": stack.ui, "MONAI_USER": USER, "MONAI_PASSWORD": stack.secrets.password}
    terminal = Terminal()
    monai = [sys.executable, "-m", "airflow_monai", "jobs"]
    run = subprocess.Popen(
        [*monai, "run", "--map", label, "--dataset", dataset, "--key", "e2e 2", "--wait"],
        env=env, stdout=subprocess.DEVNULL, stderr=terminal.end,
    )  # fmt: skip
    stack.wait_for(lambda: f"{label} RUNNING" in terminal.shown(), seconds=240, what="a job that runs")
    (job,) = (one["id"] for one in told(call(stack, "GET", "/jobs", params={"map": label}))["jobs"])
    assert start(stack, label, dataset, "e2e 2") == job
    begun = told(call(stack, "GET", f"/jobs/{job}"))
    if maps.runner == "docker":
        stack.wait_for(lambda: _containers(stack, begun["run"]), seconds=180, what="its container")
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130 and f"jobs wait {job}" in terminal.shown()

    def command(*words: str, code: int) -> str:
        done = subprocess.run([*monai, *words], env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "not ended yet" in command("finalize", job, code=1)
    assert "Cancelled" in command("cancel", job, code=0)
    command("cancel", job, code=0)
    waited = command("wait", job, code=1)
    assert f"{job}  {label}  CANCELLED" in waited and USER in waited
    if maps.runner == "docker":
        stack.wait_for(lambda: not _containers(stack, begun["run"]), seconds=180, what="no container of it")
    assert told(call(stack, "GET", f"/jobs/{job}"))["status"] == "CANCELLED"
    told(call(stack, "DELETE", "/maps/api-sleep/1.0.0"), 204)


def _containers(stack: LocalStack, run_id: str) -> list[str]:
    """Containers of the run, ended ones too."""
    return containers(stack, run=run_id)
