"""Lists of runs and tasks: what filters take, and that a page costs two queries however long the list is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest
from airflow.utils.session import create_session
from sqlalchemy import event

from airflow_monai.api.instances.ids import RunName
from airflow_monai.api.instances.runs import RunFilter, TaskFilter, list_runs, list_tasks, run_of, runs_of, tasks_of
from airflow_monai.api.instances.starting import end_run
from tests.api.airflow_rows import parse, run, state_of

WORKFLOW = """
name: {name}
version: "1"
informatics_gateway: {{ae_title: LOOK}}
tasks:
  - {{id: route, type: router, task_destinations: [{{name: more}}]}}
  - {{id: more, type: router, task_destinations: []}}
"""
PAYLOADS = [f"6f1d7c1e-3a0b-5d4e-9c55-00000000000{number}" for number in range(3)]


@pytest.fixture
def dag_id(airflow_tables: str, site_store: object) -> str:
    found = parse(WORKFLOW.format(name="look"))
    other = parse(WORKFLOW.format(name="look_again"))
    for number, state in enumerate(("success", "failed", "running")):
        run(found, f"r{number}", state, partition_key=PAYLOADS[number])
    run(other, "r0", "queued", conf={"payload_id": PAYLOADS[0]})
    return found


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL statements of the block."""
    from airflow import settings

    said: list[str] = []

    def heard(_c: object, _k: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(settings.engine, "before_cursor_execute", heard)
    try:
        yield said
    finally:
        event.remove(settings.engine, "before_cursor_execute", heard)


def names(wanted: RunFilter) -> list[str]:
    with create_session() as session:
        found = list_runs(session, wanted)
    assert found.total == len(found.items)
    return [f"{item.dag_id}/{item.run_id}" for item in found.items]


def test_runs_are_filtered(dag_id: str) -> None:
    assert names(RunFilter()) == ["look_again/r0", "look/r2", "look/r1", "look/r0"]
    assert names(RunFilter(dag_ids={dag_id})) == ["look/r2", "look/r1", "look/r0"]
    assert names(RunFilter(dag_ids=())) == []
    assert names(RunFilter(dag_prefix="look_")) == ["look_again/r0"]  # '_' stands for itself
    assert names(RunFilter(states={"failed", "queued"})) == ["look_again/r0", "look/r1"]
    assert names(RunFilter(payload_id=PAYLOADS[1])) == ["look/r1"]
    soon = datetime.now(timezone.utc) + timedelta(minutes=1)
    assert names(RunFilter(since=soon)) == []
    assert len(names(RunFilter(until=soon))) == 4


def test_a_cancelled_run_is_told_from_a_failed_one_until_it_runs_again(dag_id: str) -> None:
    assert end_run(dag_id, "r2", cancelled_by="anna") and not end_run(dag_id, "r2", cancelled_by="ben")
    assert state_of(dag_id, "r2") == "failed"
    assert names(RunFilter(cancelled=True)) == ["look/r2"]
    assert names(RunFilter(cancelled=False, states={"failed"})) == ["look/r1"]
    with create_session() as session:
        found = run_of(session, RunName(dag_id, "r2"))
        assert found and found.cancelled and found.cancelled["by"] == "anna"
        assert run_of(session, RunName(dag_id, "nothing")) is None
        from airflow.models.dagrun import DagRun

        session.query(DagRun).filter(DagRun.run_id == "r2").update({"clear_number": 1})
    assert names(RunFilter(cancelled=True)) == []
    with create_session() as session:
        found = run_of(session, RunName(dag_id, "r2"))
        assert found and found.cancelled is None


def test_a_page_costs_two_queries(dag_id: str) -> None:
    for number in range(3, 30):
        run(dag_id, f"r{number}")
    with create_session() as session, statements() as said:
        page = list_runs(session, RunFilter(dag_prefix="look"), limit=10, offset=10)
        tasks = tasks_of(session, [item.name for item in page.items])
        found = runs_of(session, [item.name for item in page.items])
    assert [item.run_id for item in page.items] == [f"r{number}" for number in range(19, 9, -1)]
    assert page.total == 31 and len(said) == 4
    assert {len(of_run) for of_run in tasks.values()} == {2}
    assert set(found) == set(tasks)


def test_tasks_are_filtered_and_paged(dag_id: str) -> None:
    with create_session() as session, statements() as said:
        page = list_tasks(session, TaskFilter(RunFilter(dag_ids={dag_id}), states={"success", ""}), limit=2)
        assert len(said) == 2 and page.total == 4
        assert {(task.run_id, task.state) for task in page.items} == {("r2", "")}
        routes = list_tasks(session, TaskFilter(task_id="route", states={"failed"}))
        assert [(task.run_id, task.task_id) for task in routes.items] == [("r1", "route")]
