"""What a gateway asks of Airflow's own API to see what has changed: the real routes, on a real PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import text

from airflow_monai.hooks.airflow_changes import AirflowChanges
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.watcher import Watcher
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import run_id_of
from tests.api.airflow_rows import parse, run, set_task
from tests.lifecycle.conftest import journal_of

WORKFLOW = """
name: ct-lung
version: 1.0.0
informatics_gateway: {ae_title: CTLUNG}
tasks:
  - {id: route, type: router, task_destinations: [{name: segment}]}
  - id: segment
    type: map
    args: {map: "lung-seg:1.0.0"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}], output: [{name: seg, type: SEG}]}
"""
PAYLOAD = "0b8ee4f2-0000-4000-8000-00000000000{}"
OLD_RUNS = int(os.environ.get("OLD_RUNS", "1000"))


class AirflowHere:
    """Airflow's API in this process, as a viewer asks it."""

    def __init__(self, client: TestClient):
        self._client = client
        self.asked: list[str] = []
        self.seconds: list[float] = []

    def get(self, path: str, query: dict[str, str]) -> Any:
        began = time.perf_counter()
        answer = self._client.get(path, params=query, follow_redirects=False)
        self.seconds.append(time.perf_counter() - began)
        self.asked.append(path)
        return answer


@pytest.fixture
def airflow(airflow_tables: str, people: Callable[[str], str]) -> Iterator[AirflowHere]:
    from airflow.api_fastapi.app import create_app, purge_cached_app

    purge_cached_app()
    app = create_app(apps="core")
    yield AirflowHere(TestClient(app, headers={"authorization": f"Bearer {people('viewer')}"}))
    purge_cached_app()


@pytest.fixture
def watch(airflow: AirflowHere, site_store: LocalStore) -> Watcher:
    made = Watcher(site_store, Journal(site_store), AirflowChanges(airflow))  # type: ignore[arg-type]
    made.begin(datetime.now(timezone.utc))
    return made


def kinds(store: LocalStore, run_id: str) -> list[str]:
    return [f"{one.what.value} {one.task_id}".strip() for one in journal_of(store) if one.run_id == run_id]


def test_runs_and_tasks_that_change_are_seen_with_their_dates(watch: Watcher, site_store: LocalStore):
    dag_id = parse(WORKFLOW)
    going, ended = run_id_of(PAYLOAD.format(1)), run_id_of(PAYLOAD.format(2))
    now = datetime.now(timezone.utc)
    run(dag_id, going, "running", partition_key=PAYLOAD.format(1))
    set_task(dag_id, going, "segment", {"state": "running", "start_date": now, "try_number": 1})
    run(dag_id, ended, "success", partition_key=PAYLOAD.format(2))
    run(dag_id, "manual__1", "success")
    watch.look()
    assert kinds(site_store, going) == ["workflow.started", "task.started segment"]
    assert kinds(site_store, ended)[0] == "workflow.started" and kinds(site_store, ended)[-1] == "workflow.completed"
    assert sorted(kinds(site_store, ended)[1:-1]) == [
        "task.completed route", "task.completed segment", "task.started route", "task.started segment",
    ]  # fmt: skip
    assert {event.run_id for event in journal_of(site_store)} == {going, ended}
    assert {event.workflow for event in journal_of(site_store)} == {"ct-lung"}
    set_task(dag_id, going, "segment", {"state": "success", "end_date": now + timedelta(seconds=5)})
    assert watch.look() == 1
    assert kinds(site_store, going)[-1] == "task.completed segment"
    assert watch.look() == 0


def test_old_runs_cost_next_to_nothing(watch: Watcher, airflow: AirflowHere, site_store: LocalStore):
    dag_id = parse(WORKFLOW)
    run(dag_id, "old", "success", partition_key=PAYLOAD.format(1))
    _multiply("old", 0)
    for _ in range(3):
        assert watch.look() == 0
    none = sorted(airflow.seconds)[len(airflow.seconds) // 2]
    airflow.seconds.clear()
    airflow.asked.clear()
    _multiply("old", OLD_RUNS)
    for _ in range(6):
        assert watch.look() == 0
    few = sorted(airflow.seconds)[len(airflow.seconds) // 2]
    print(f"{OLD_RUNS} old runs: {1000 * few:.0f} ms a request, {len(airflow.seconds)} requests for 6 looks")
    print(f"without them {1000 * none:.0f} ms a request")
    assert len(airflow.asked) == 12
    assert few < max(0.2, 10 * none)
    run(dag_id, "new", "success", partition_key=PAYLOAD.format(2))
    watch.look()
    assert kinds(site_store, "new")[-1] == "workflow.completed"


def _multiply(run_id: str, count: int) -> None:
    """Have so many runs like this one, all old."""
    old = datetime.now(timezone.utc) - timedelta(days=30)
    with create_session() as session:
        columns = {
            table: [
                row[0]
                for row in session.execute(
                    text(
                        "SELECT column_name FROM information_schema.columns WHERE table_name = :table AND is_generated "
                        "= 'NEVER'"
                    ),
                    {"table": table},
                )
            ]
            for table in ("dag_run", "task_instance")
        }
        new = {
            "dag_run": {"id": "nextval('dag_run_id_seq')", "run_id": "'old-' || n", "updated_at": ":old"},
            "task_instance": {"id": "gen_random_uuid()", "run_id": "'old-' || n", "updated_at": ":old"},
        }
        for table, names in columns.items():
            values = ", ".join(new[table].get(name, f'"{name}"') for name in names)
            listed = ", ".join(f'"{name}"' for name in names)
            session.execute(
                text(
                    f"INSERT INTO {table} ({listed}) SELECT {values} FROM {table}, generate_series(1, :count) AS n "
                    "WHERE run_id = :run_id"
                ),
                {"count": count, "run_id": run_id, "old": old},
            )
        for table in columns:
            session.execute(text(f"UPDATE {table} SET updated_at = :old"), {"old": old})
        session.execute(text("ANALYZE"))
