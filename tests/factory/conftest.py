"""A real PostgreSQL and Airflow's DAG test mode, one of each for all tests that need them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class DagTestServer:
    """Runs workflows in Airflow's DAG test mode; see ``dag_test_server``."""

    def __init__(self, home: Path, database_url: str):
        dags, store = home / "dags", home / "store"
        dags.mkdir(parents=True)
        (dags / "empty.py").write_text("# nothing\n")  # the file that the workflows are said to be from
        local = "airflow.dag_processing.bundles.local.LocalDagBundle"
        bundles = [{"name": "property", "classpath": local, "kwargs": {"path": str(dags)}}]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environment |= {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__MONAI__STORE": str(store),
        }
        self._log = (home / "server.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("dag_test_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self._answer()

    def run(self, text: str, scripts: dict[str, Any], series: int = 1) -> dict[str, Any]:
        """Run a workflow once on a study of so many series; the states of the run and of every task."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"text": text, "scripts": scripts, "series": series}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert "error" not in answer, answer["error"]
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The DAG test server ended:\n{Path(self._log.name).read_text()[-4000:]}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


@pytest.fixture(scope="session")
def dag_test_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagTestServer]:
    from airflow_monai.local.postgres import DATABASE, Cluster

    home = tmp_path_factory.mktemp("airflow")
    cluster = Cluster(home / "postgres", log=home / "postgres.log", env=os.environ, ends_with_owner=True)
    cluster.create()
    try:
        cluster.start()
        cluster.execute(f"CREATE DATABASE {DATABASE}", database="postgres")
        server = DagTestServer(home / "home", cluster.url)
        yield server
        server.close()
    finally:
        cluster.stop()
