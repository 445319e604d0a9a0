"""Our APIs on a real PostgreSQL with Airflow's tables, asked by people whom Airflow's simple auth manager knows.

The app is called in this process; the whole way, from a socket through Airflow's API server, is walked in tests/e2e.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from airflow_monai.local.postgres import Cluster
from airflow_monai.local.stack import project_folder
from airflow_monai.local.template import ensure_template
from airflow_monai.store.local import LocalStore

ROLES = ("viewer", "user", "op", "admin")
_CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_LOGGED = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z \[")


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database with Airflow's tables, which this process's Airflow uses from now on to the end."""
    from airflow import settings

    folder = tmp_path_factory.mktemp("api-database")
    folder.chmod(0o755)  # the server's user, when that is another, must get through
    log, env = folder / "postgres.log", dict(os.environ)
    postgres = Cluster(folder / "data", log=log, env=env, ends_with_owner=True)
    postgres.copy_from(ensure_template(project_folder() / ".demo" / "cache", env=env, log=log))
    postgres.start()
    before = os.environ.get(_CONNECTION)
    os.environ[_CONNECTION] = postgres.url
    try:
        settings.configure_vars()
        settings.configure_orm(disable_connection_pool=True)
        yield postgres.url
    finally:
        settings.dispose_orm(do_log=False)
        if before is None:
            del os.environ[_CONNECTION]
        else:
            os.environ[_CONNECTION] = before
        settings.configure_vars()
        settings.configure_orm()
        postgres.stop()


@pytest.fixture
def airflow_tables(airflow_database: str) -> str:
    """The same, without DAGs, runs, connections and log entries."""
    from airflow.utils.session import create_session
    from sqlalchemy import text

    names = "dag, dag_run, dag_version, task_instance, connection, log, dag_bundle"
    with create_session() as session:
        session.execute(text(f"TRUNCATE {names} CASCADE"))
    return airflow_database


@pytest.fixture
def site_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """The site's store, and settings that the disk guard lets through."""
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__MONAI__DISK_USED_PERCENT", "100")
    monkeypatch.setenv("AIRFLOW__MONAI__DISK_RESERVE", "0 GB")
    monkeypatch.setenv("AIRFLOW__MONAI__WORKFLOW_FOLDER", str(tmp_path / "workflows"))
    monkeypatch.setenv("AIRFLOW__MONAI__API_RATE", "0")  # tests are no caller with patience
    (tmp_path / "workflows").mkdir()
    return LocalStore(tmp_path / "store")


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Gives the token of a person with one of Airflow's roles; their names are those of the roles, so are passwords."""
    import json

    from airflow.api_fastapi.app import _AuthManagerState, get_auth_manager, init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({role: role for role in ROLES}))
    monkeypatch.setenv(
        "AIRFLOW__CORE__AUTH_MANAGER", "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    )
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", ",".join(f"{role}:{role}" for role in ROLES))
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
    monkeypatch.setenv(
        "AIRFLOW__API_AUTH__JWT_SECRET", "a secret of the tests that is long enough to sign tokens with, is it not?"
    )
    monkeypatch.setattr(_AuthManagerState, "instance", None)
    init_auth_manager()

    def token(role: str) -> str:
        return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=role, role=role.upper()))

    return token


@pytest.fixture
def api(
    airflow_tables: str, site_store: LocalStore, people: Callable[[str], str]
) -> Iterator[Callable[[str | None], TestClient]]:
    """Gives a client of the app for a person: one of :data:`ROLES`, or None for somebody who has not signed in."""
    from airflow_monai.api.app import create_app

    app = create_app()

    def client(role: str | None = "admin") -> TestClient:
        headers = {"authorization": f"Bearer {people(role)}"} if role else {}
        return TestClient(app, headers=headers, raise_server_exceptions=False)

    yield client


@pytest.fixture
def served_url(api: Callable[[str | None], TestClient]) -> Iterator[str]:
    """Address of the app on a socket, mounted as Airflow mounts it."""
    import threading
    import time

    import uvicorn
    from fastapi import FastAPI

    root = FastAPI()
    root.mount("/monai", api(None).app)
    server = uvicorn.Server(uvicorn.Config(root, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def command(
    served_url: str,
    people: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs a command of ours against the app, in an empty folder; gives what it prints, on stderr when it fails."""
    from airflow_monai.cli.standalone import main

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MONAI_URL", served_url)

    def run(*words: str, code: int = 0, who: str = "admin") -> str:
        capsys.readouterr()
        monkeypatch.setenv("MONAI_TOKEN", people(who) if who in ROLES else who)
        with pytest.raises(SystemExit) as ended:
            main(words)
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told
        lines = (told.err if code else told.out).splitlines(keepends=True)
        return "".join(line for line in lines if not _LOGGED.match(line))  # Airflow logs in this process too

    return run
