"""Two real API servers on one store and one database, of which one is killed in the middle of what it was asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_monai.api.instances.starting import RunsHere, end_run
from airflow_monai.jobs.requests import JobRequests
from airflow_monai.jobs.starting import JobStarter
from airflow_monai.local.ports import choose
from airflow_monai.local.stack import project_folder
from airflow_monai.store.local import LocalStore
from tests.api.app_server import job_scene
from tests.api.app_server.job_scene import LABEL, URL

JOBS, THREADS, KILL_AFTER = 36, 6, 9


@contextmanager
def server(log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server of our APIs; its address, and its process."""
    port = choose()
    command = [sys.executable, "-m", "uvicorn", "--factory", "tests.api.app_server.served:app"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
            cwd=project_folder(),
            env={**os.environ, "PYTHONPATH": str(project_folder())},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def wait_for(address: str, log: Path) -> None:
    for _ in range(600):
        try:
            requests.get(f"{address}{URL}", timeout=60)  # the first answer takes seconds
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_a_killed_server_loses_no_job_and_doubles_none(
    api: Callable[..., TestClient], site_store: LocalStore, tmp_path: Path
) -> None:
    job_scene.register(site_store)
    dataset = job_scene.dataset(site_store)
    headers = {"authorization": str(api("user").headers["authorization"])}
    jobs: dict[str, str] = {}
    failures = 0
    lock = threading.Lock()

    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    with server(logs[0]) as (one, process), server(logs[1]) as (two, _):
        wait_for(one, logs[0])
        wait_for(two, logs[1])

        def ask(number: int) -> None:
            """As a client does that wants its job: once more, elsewhere, with the same key, until it is answered."""
            nonlocal failures
            key = f"job {number}"
            for address in (one, two, two, two):
                try:
                    answer = requests.post(
                        f"{address}{URL}",
                        json={"map": LABEL, "dataset": dataset},
                        headers={**headers, "Idempotency-Key": key},
                        timeout=60,
                    )
                except requests.RequestException:
                    with lock:
                        failures += 1
                    continue
                assert answer.status_code in (200, 201, 202), answer.text
                with lock:
                    jobs[key] = answer.json()["jobs"][0]["id"]
                    if len(jobs) == KILL_AFTER:
                        os.kill(process.pid, signal.SIGKILL)
                return

        def work(first: int) -> None:
            for number in range(first, JOBS, THREADS):
                ask(number)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert process.wait() == -signal.SIGKILL

    assert failures >= JOBS - KILL_AFTER - THREADS  # it was killed in the middle
    assert len(jobs) == JOBS and len(set(jobs.values())) == JOBS
    # what the killed one had promised and not begun, a gateway begins
    JobStarter(site_store, RunsHere("gateway"), end_run).start_open()
    assert list(JobRequests(site_store).open()) == []
    from airflow.models.dagrun import DagRun

    with create_session() as session:
        runs = session.scalars(select(DagRun.run_id)).all()
    assert len(runs) == len(set(runs)) == JOBS
    listed = api("user").get(URL, params={"limit": 1000}).json()
    assert {job["id"] for job in listed["jobs"]} == set(jobs.values()) and listed["total"] == JOBS
