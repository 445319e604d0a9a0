"""A hospital with two workflows, ``heart`` and ``lung``, a run of each; its API server under other auth managers."""

from __future__ import annotations

import os
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
from tests.api.workflow_manager.scene import receive, work_on, write_workflow
from tests.keycloak_server import CLIENT, CLIENT_SECRET, REALM, Keycloak, Person, keycloak
from tests.pacs import free_port

REPOSITORY = Path(__file__).parents[3]
SECRET = "a secret of the tests that is long enough to sign tokens with, is it not?"


def person(name: str, *roles: str, only: str = "") -> Person:
    return Person(name, frozenset(roles), password=name, only=frozenset({only}) if only else None)


PEOPLE = (
    person("viewer", "Viewer"),
    person("user", "User"),
    person("op", "User", "Op"),  # the permissions of Op hold nothing of DAGs
    person("admin", "Admin"),
    person("stranger"),
    person("heart-worker", "User", only="heart"),
    Person(f"service-account-{CLIENT}", frozenset({"User"})),
)
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
KEYCLOAK = "airflow.providers.keycloak.auth_manager.keycloak_auth_manager.KeycloakAuthManager"


@dataclass(frozen=True)
class Hospital:
    """What all its API servers share.

    :param payloads: workflow -> id of the payload that it ran on.
    """

    database: str
    folder: Path
    payloads: dict[str, str]


@dataclass(frozen=True)
class Server:
    """An API server of the hospital, which starts meanwhile."""

    hospital: Hospital
    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def payloads(self) -> dict[str, str]:
        return self.hospital.payloads

    def monai(self, path: str) -> str:
        return f"{self.url}/monai{path}"

    def wait(self) -> Server:
        """Until it answers."""
        until = time.monotonic() + 180
        while time.monotonic() < until and self.process.poll() is None:
            try:
                requests.get(f"{self.url}/api/v2/version", timeout=60)  # the first answer takes seconds
                return self
            except requests.RequestException:
                time.sleep(0.1)
        raise AssertionError((self.hospital.folder / f"server-{self.port}.log").read_text()[-4000:])


@contextmanager
def starting(hospital: Hospital, manager: str, **settings: str) -> Iterator[Server]:
    """
    :param manager: class of the auth manager.
    :param settings: further environment variables.
    """
    port, folder = free_port(), hospital.folder
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": hospital.database,
        "AIRFLOW__CORE__AUTH_MANAGER": manager,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__SECRET_KEY": SECRET,
        "AIRFLOW__API_AUTH__JWT_SECRET": SECRET,
        "AIRFLOW__MONAI__STORE": str(folder / "store"),
        "AIRFLOW__MONAI__WORKFLOW_FOLDER": str(folder / "workflows"),
        "AIRFLOW__MONAI__API_RATE": "0",
        **settings,
    }
    with (folder / f"server-{port}.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.api.auth_managers.server", str(port), str(folder / "workflows")]
        process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=log, stderr=log)
    try:
        yield Server(hospital, process, port)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="package")
def hospital(airflow_database: str, tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """Its database, store and folder of workflows; the providers that the tests are about are installed."""
    if sys.version_info < (3, 11):  # noqa: UP036 - setup.cfg allows 3.10
        pytest.skip("the FAB and Keycloak providers of this Airflow need Python 3.11")
    from airflow.utils.session import create_session
    from sqlalchemy import text

    with create_session() as session:
        session.execute(text("TRUNCATE dag, dag_run, dag_version, task_instance, connection, log, dag_bundle CASCADE"))
    folder, payloads = tmp_path_factory.mktemp("hospital"), {}
    (folder / "workflows").mkdir()
    store = LocalStore(folder / "store")
    for number, name in enumerate(("heart", "lung"), start=1):
        write_workflow(folder / "workflows", name)
        payloads[name] = receive(store, f"1.2.{number}")
        work_on(store, name, payloads[name])
    return Hospital(airflow_database, folder, payloads)


@pytest.fixture(scope="package")
def realm() -> Iterator[Keycloak]:
    with keycloak(*PEOPLE) as server:
        yield server


@pytest.fixture(scope="package")
def servers(hospital: Hospital, realm: Keycloak) -> Iterator[tuple[Server, Server]]:
    """One under FAB and one under Keycloak, which start at the same time."""
    options = {"SERVER_URL": realm.url, "REALM": REALM, "CLIENT_ID": CLIENT, "CLIENT_SECRET": CLIENT_SECRET}
    settings = {f"AIRFLOW__KEYCLOAK_AUTH_MANAGER__{name}": value for name, value in options.items()}
    with starting(hospital, FAB) as fab, starting(hospital, KEYCLOAK, **settings) as other:
        yield fab, other
