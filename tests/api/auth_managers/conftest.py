"""A hospital with two workflows, ``heart`` and ``lung``, a run of each; its API server under other auth managers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from airflow_monai.store.local import LocalStore
from tests.api.workflow_manager.scene import WORKFLOW, receive, work_on

REPOSITORY = Path(__file__).parents[3]
SECRET = "a secret of the tests that is long enough to sign tokens with, is it not?"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@dataclass(frozen=True)
class Hospital:
    """:param payloads: workflow -> id of the payload that it ran on."""

    url: str
    folder: Path
    payloads: dict[str, str]

    def monai(self, path: str) -> str:
        return f"{self.url}/monai{path}"


@contextmanager
def hospital(database: str, folder: Path, manager: str, **settings: str) -> Iterator[Hospital]:
    """
    :param manager: class of the auth manager.
    :param settings: further environment variables.
    """
    (folder / "workflows").mkdir()
    for name in ("heart", "lung"):
        (folder / "workflows" / f"{name}.yaml").write_text(WORKFLOW.format(name=name))
    with serving(database, folder, manager, **settings) as url:
        yield Hospital(url, folder, _worked_in(LocalStore(folder / "store")))


@contextmanager
def serving(database: str, folder: Path, manager: str, **settings: str) -> Iterator[str]:
    """One more API server of a hospital; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__CORE__AUTH_MANAGER": manager,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": SECRET,
        "AIRFLOW__API_AUTH__JWT_SECRET": SECRET,
        "AIRFLOW__MONAI__STORE": str(folder / "store"),
        "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(folder / "workflows"),
        "AIRFLOW__MONAI__API_RATE": "0",
        **settings,
    }
    with (folder / f"server-{port}.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.api.auth_managers.server", str(port), str(folder / "workflows")]
        server = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=log, stderr=log)
    try:
        _wait(url, server, folder / f"server-{port}.log")
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until and server.poll() is None:
        try:
            requests.get(f"{url}/api/v2/version", timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-4000:])


def _worked_in(store: LocalStore) -> dict[str, str]:
    payloads = {}
    for number, name in enumerate(("heart", "lung"), start=1):
        payloads[name] = receive(store, f"1.2.{number}")
        work_on(store, name, payloads[name])
    return payloads


@pytest.fixture(scope="module")
def installed() -> None:
    """The providers that the tests are about, which are among what `make test` installs."""
    if sys.version_info < (3, 11):  # noqa: UP036 - setup.cfg allows 3.10
        pytest.skip("the FAB and Keycloak providers of this Airflow need Python 3.11")


@pytest.fixture(scope="module")
def emptied(airflow_database: str) -> str:
    """The database without DAGs and runs."""
    from airflow.utils.session import create_session
    from sqlalchemy import text

    with create_session() as session:
        session.execute(text("TRUNCATE dag, dag_run, dag_version, task_instance, connection, log, dag_bundle CASCADE"))
    return airflow_database
