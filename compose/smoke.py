"""Two studies through docker-compose.yaml, the second with its worker killed; `compose/test.sh` runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import requests

from airflow_monai.errors import MonaiError
from airflow_monai.local import study
from airflow_monai.local.airflow_api import AirflowApi
from airflow_monai.local.phantom import generate
from airflow_monai.local.ports import LOOPBACK

ROOT = Path(__file__).resolve().parents[1]
SERVICES = ("postgres", "api-server", "scheduler", "dag-processor", "triggerer", "gateway", "pacs")
AE_TITLE = "CTLUNG"
DAG = "ct-lung"
MAP_TASK, EXPORT_TASK = "segment", "to-pacs"
ENDED = ("success", "failed")
RECEIVED_LOG = "/var/lib/pacs/received.log"
T = TypeVar("T")


class Compose:
    """A compose project of our own name, with an environment of its own."""

    def __init__(self, project: str, env_file: Path, environment: Mapping[str, str]):
        self._command = [*_compose(), "--env-file", str(env_file), "--project-name", project]
        self._environment = {**os.environ, **environment}

    def run(self, *words: str, check: bool = True) -> str:
        """Standard output of a compose command; raises MonaiError with the end of what it said when it fails."""
        done = subprocess.run(
            [*self._command, *words], cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise MonaiError(f"docker-compose {words[0]} failed:\n{said}")
        return done.stdout

    def down(self) -> None:
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "10")


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    try:
        _say(started, "building the image")
        _build()
        with tempfile.TemporaryDirectory(prefix="monai-compose-") as scratch:
            _try(Path(scratch), started)
    except (MonaiError, requests.RequestException) as error:
        print(f"test-compose: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    _say(started, "everything was removed: the compose test passed")
    return 0


def _try(scratch: Path, started: float) -> None:
    ui, dicom = _free_ports()
    env_file = scratch / "env"
    subprocess.run(["sh", ROOT / "compose/env.sh", env_file], check=True, stderr=subprocess.DEVNULL)
    password = dict(line.split("=", 1) for line in env_file.read_text().splitlines() if "=" in line)["MONAI_PASSWORD"]
    ports = {"MONAI_UI_PORT": str(ui), "MONAI_DICOM_PORT": str(dicom)}
    compose = Compose(f"monai-test-{os.getpid()}", env_file, ports)
    try:
        _say(started, "starting the services")
        compose.run("up", "-d", "--no-build")
        api = AirflowApi(f"http://{LOOPBACK}:{ui}", "admin", password)
        _wait(lambda: _ready(api), 180, "Airflow and its workflows")
        _say(started, "sending a study")
        _send(scratch / "study", dicom)
        run = _wait(lambda: _finished(api), 180, "the end of the run")
        _say(started, f"run {run['dag_run_id']} ended: {run['state']}")
        _check(api, run, compose)
        _say(started, "the PACS has the results")
        _check_commands(compose)
        _say(started, f"maps inspect and register work; {_isolation(compose)}")
        _survive(compose, api, scratch / "second", dicom)
        _say(started, "a study whose worker's container was killed is in the PACS too, once")
    except BaseException:
        for service in SERVICES:
            print(
                f"--- {service}\n{compose.run('logs', '--no-color', '--tail=25', service, check=False)}",
                file=sys.stderr,
            )
        raise
    finally:
        compose.down()


def _build() -> None:
    done = subprocess.run([sys.executable, ROOT / "compose/build.py"], check=False)
    if done.returncode != 0:
        raise MonaiError("the image could not be built.")


def _ready(api: AirflowApi) -> bool:
    health = api.health()
    parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    return all(health.get(part) == "healthy" for part in parts) and api.dag(DAG) is not None


def _send(folder: Path, port: int) -> None:
    generate(folder)
    sent = study.read(folder)
    _wait(lambda: _sent(sent, port), 60, "the gateway")


def _sent(found: study.Study, port: int) -> bool:
    try:
        study.send(found, port, called_aet=AE_TITLE, stop=lambda: False)
    except study.StudyError as error:
        if "refuses an association" in str(error):
            return False  # not listening yet
        raise
    return True


def _finished(api: AirflowApi) -> dict[str, Any] | None:
    runs = api.runs(DAG)
    return runs[0] if runs and runs[0]["state"] in ENDED else None


def _check(api: AirflowApi, run: Mapping[str, Any], compose: Compose, runs: int = 1) -> None:
    """So many runs, this one successful, and every result of them in the PACS exactly once."""
    run_id = run["dag_run_id"]
    states = {task["task_id"]: task["state"] for task in api.task_instances(DAG, run_id)}
    if run["state"] != "success" or len(api.runs(DAG)) != runs:
        raise MonaiError(f"expected {runs} runs, the last successful; its tasks: {json.dumps(states)}")
    received = compose.run("exec", "-T", "pacs", "cat", RECEIVED_LOG).split("\n")
    uids = [line.split("\t")[0] for line in received if line]
    exported = json.dumps([api.xcom(DAG, each["dag_run_id"], EXPORT_TASK) for each in api.runs(DAG)])
    if len(uids) < runs or len(set(uids)) != len(uids) or any(uid not in exported for uid in uids):
        raise MonaiError(f"the PACS holds {uids}, and the exports say {exported}")


def _check_commands(compose: Compose) -> None:
    """The commands that look into a MAP and register it need no Docker engine here."""
    for words in (("inspect", "lung-seg"), ("register", "noop")):
        compose.run("exec", "-T", "scheduler", "airflow", "monai", "maps", *words)


def _isolation(compose: Compose) -> str:
    """What the worker said at its start of whether it can shut MAPs in."""
    said = [line for line in compose.run("logs", "--no-color", "scheduler").splitlines() if "worker: " in line]
    if not said:
        raise MonaiError("the worker does not say whether it can shut MAPs in.")
    return said[0].partition("worker: ")[2]


def _survive(compose: Compose, api: AirflowApi, folder: Path, port: int) -> None:
    """Kill the worker's container while it runs the MAP of a second study."""
    before = {run["dag_run_id"] for run in api.runs(DAG)}
    _send(folder, port)
    run_id = _wait(
        lambda: next((r["dag_run_id"] for r in api.runs(DAG) if r["dag_run_id"] not in before), None), 60, "its run"
    )
    _wait(lambda: _state(api, run_id, MAP_TASK) == "running", 60, "its MAP")
    compose.run("kill", "scheduler")
    compose.run("up", "-d", "--no-build", "scheduler")
    _wait(lambda: _run(api, run_id)["state"] in ENDED, 300, "the end of the run whose worker was killed")
    _check(api, _run(api, run_id), compose, len(before) + 1)


def _state(api: AirflowApi, run_id: str, task_id: str) -> str | None:
    return next((task["state"] for task in api.task_instances(DAG, run_id) if task["task_id"] == task_id), None)


def _run(api: AirflowApi, run_id: str) -> dict[str, Any]:
    return next(run for run in api.runs(DAG) if run["dag_run_id"] == run_id)


def _wait(question: Callable[[], T | None], seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = question()
        except requests.RequestException:
            answer = None
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise MonaiError(f"waited {seconds:g} s in vain for {what}.")
        time.sleep(1)


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind((LOOPBACK, 0))
        other.bind((LOOPBACK, 0))
        return one.getsockname()[1], other.getsockname()[1]


def _compose() -> list[str]:
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise MonaiError("neither docker compose nor docker-compose is installed (apt-get install docker-compose).")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(started: float, text: str) -> None:
    print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
