"""The two engines do the same by the same interface: Airflow behind its REST API's answers, Argo behind a server that
behaves as Argo's does (tests/argo_server.py says what it stands in for)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.engine import Engine, Job, JobState
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from airflow_monai.hooks.argo import ArgoHook
from airflow_monai.hooks.argo_engine import ArgoEngine
from tests.argo_server import argo_server

PAYLOAD = "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e01"


@dataclass
class Bench:
    """An engine, and its workflows that end well, badly, and only when they are told to."""

    engine: Engine
    runs: dict[str, str] = field(default_factory=dict)


class FakeAirflow:
    """The few routes of Airflow's REST API; a run goes one state on at each look, that of ``good`` to success."""

    def __init__(self) -> None:
        fake = self
        self.runs: dict[str, dict[str, Any]] = {}

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                status, value = fake.answer(self.command, self.path.split("?")[0], body)
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/auth/token":
            return 201, {"access_token": "t"}
        parts = path.removeprefix("/api/v2/dags/").split("/")
        if parts[0] not in ("good", "bad", "long"):
            return 404, {"detail": "no such DAG"}
        if len(parts) == 1:
            return 200, {"dag_id": parts[0], "is_paused": False, "has_import_errors": False}
        if method == "POST":
            if body["dag_run_id"] in self.runs:
                return 409, {}
            run = self.runs[body["dag_run_id"]] = {"dag_run_id": body["dag_run_id"], "state": "queued"}
            return 200, run
        if parts[2] not in self.runs:
            return 404, {}
        run = self.runs[parts[2]]
        if method == "PATCH":
            run["state"] = body["state"]
            return 200, run
        told = dict(run)
        following = {"queued": "running", "running": {"good": "success", "bad": "failed"}.get(parts[0], "running")}
        run["state"] = following.get(run["state"], run["state"])
        return 200, told


@pytest.fixture(params=["airflow", "argo"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    if request.param == "argo":
        with argo_server(tmp_path / "cluster") as server:
            server.template("good")
            server.template("bad", "raise SystemExit(3)")
            server.template("long", seconds=600)
            monkeypatch.setenv("AIRFLOW_CONN_ARGO", server.connection())
            yield ArgoEngine(ArgoHook("argo").get_conn())
        return
    fake = FakeAirflow()
    port = fake.server.server_port
    connection = {"conn_type": "http", "host": "127.0.0.1", "port": port, "login": "g", "password": "g"}
    monkeypatch.setenv("AIRFLOW_CONN_FAKE", json.dumps(connection))
    yield AirflowEngine(AirflowApi("fake"))
    fake.server.shutdown()
    fake.server.server_close()


def ended(engine: Engine, job: Job) -> JobState:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        status = engine.status(job)
        assert status is not None
        if status.state.is_final:
            return status.state
        time.sleep(0.05)
    raise AssertionError("it does not end")


def test_a_job_is_launched_once_and_followed_to_its_end(engine: Engine) -> None:
    for workflow, end in (("good", JobState.SUCCEEDED), ("bad", JobState.FAILED)):
        job = Job(workflow, f"job-{workflow}", PAYLOAD)
        assert engine.validate(workflow) == ()
        assert engine.status(job) is None
        assert engine.launch(job) is True
        assert engine.launch(job) is False
        assert ended(engine, job) is end
        assert engine.cancel(job) is False


def test_a_job_is_cancelled_once(engine: Engine) -> None:
    job = Job("long", "job-long", PAYLOAD)
    assert engine.cancel(job) is False
    engine.launch(job)
    assert engine.cancel(job) is True
    assert ended(engine, job) is JobState.FAILED
    assert engine.cancel(job) is False


def test_a_workflow_that_the_engine_does_not_have_is_told_before_it_is_launched(engine: Engine) -> None:
    (problem,) = engine.validate("nothing")
    assert "'nothing'" in problem
