"""A gateway on a store of its own, with a stand-in for Airflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.gateway.service import Gateway, GatewayOptions
from airflow_monai.hooks.airflow_api import AirflowApi
from airflow_monai.hooks.airflow_engine import AirflowEngine
from airflow_monai.store.local import LocalStore
from tests.gateway.standin import StandInAirflow

WORKFLOW = """
name: {name}
version: 1.0.0
informatics_gateway:
  ae_title: {ae}
  quiet_seconds: {quiet}
{more}
tasks:
  - id: route
    type: router
"""


def write_workflow(folder: Path, name: str = "ct-lung", ae: str = "CTLUNG", quiet: float = 1.0, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(WORKFLOW.format(name=name, ae=ae, quiet=quiet, more=more))
    return file


def wait_for(what: Callable[[], Any], seconds: float = 60.0, pause: float = 0.02) -> Any:
    """The first true value that ``what`` gives; only what never comes takes all of the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"not so within {seconds} s")


class Site:
    """A store, a workflow folder, an Airflow, and gateways on them.

    :param store: in place of a folder's.
    :param more: environment that processes need for it.
    """

    def __init__(self, folder: Path, airflow: StandInAirflow, store: Any = None, more: Mapping[str, str] | None = None):
        self.folder = folder
        self.airflow = airflow
        self.store = store or LocalStore(folder / "store")
        self._more = dict(more or {})
        self.workflows = folder / "workflows"
        self.events_file = folder / "events.jsonl"
        self._gateways: list[Gateway] = []
        self._processes: list[subprocess.Popen[str]] = []

    def gateway(self, **more: Any) -> Gateway:
        """
        :param more: options of the gateway.
        """
        options = GatewayOptions(str(self.workflows), "127.0.0.1", 0, 1.0, self.events_file, **more)
        gateway = Gateway(self.store, options, AirflowEngine(AirflowApi("monai_airflow")))
        gateway.start()
        self._gateways.append(gateway)
        return gateway

    def process(self, port: int, *, code: str = "", **environment: str) -> subprocess.Popen[str]:
        """A gateway in a process of its own, to be killed.

        :param code: runs in place of the gateway's own module.
        """
        what = ["-c", code] if code else ["-m", "airflow_monai.gateway.command"]
        command = [sys.executable, *what, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--events", str(self.events_file)]
        started = len(self.events("gateway-started"))
        with open(self.folder / "gateway.log", "a") as log:
            process = subprocess.Popen(command, stderr=log, text=True, env={**self.environment(), **environment})
        self._processes.append(process)
        wait_for(lambda: len(self.events("gateway-started")) > started or process.poll() is not None, 180)
        return process

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__MONAI__STORE": self.store.url,
            "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(self.workflows),
            "AIRFLOW__MONAI__QUIET_SECONDS": "1.0",
            "AIRFLOW_CONN_MONAI_AIRFLOW": self.airflow.connection,
            **self._more,
        }

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        if not self.events_file.exists():
            return []
        *lines, _ = self.events_file.read_text().split("\n")  # the last one is just being written
        return [event for event in map(json.loads, lines) if not kinds or event["event"] in kinds]

    def wait_for_event(self, kind: str, count: int = 1, seconds: float = 60.0) -> list[dict[str, Any]]:
        return wait_for(lambda: found if len(found := self.events(kind)) >= count else None, seconds)

    def files(self) -> list[str]:
        """All images in payloads, below the store."""
        return [key for key in self.store.list("payloads") if "/dcm/" in key]

    def unfinished(self) -> list[Path]:
        """Files that are still coming in, or were left behind."""
        top = self.store.spool()
        # not by `glob`: folders of it come and go meanwhile
        found = [Path(folder, name) for folder, _, names in os.walk(top) for name in names if name != "lock"]
        return [path for path in found if path.parent != top and path.is_file()]

    def unfinished_bytes(self) -> int:
        """How much space they take."""
        total = 0
        for path in self.unfinished():
            with suppress(FileNotFoundError):  # it has just been removed
                total += path.stat().st_size
        return total

    def close(self) -> None:
        for gateway in self._gateways:
            gateway.stop(grace=0.5)
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInAirflow]:
    standin = StandInAirflow()
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_AIRFLOW", standin.connection)
    yield standin
    standin.stop()


@pytest.fixture
def site(tmp_path: Path, airflow: StandInAirflow) -> Iterator[Site]:
    site = Site(tmp_path, airflow)
    write_workflow(site.workflows)
    yield site
    site.close()
