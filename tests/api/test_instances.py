"""Runs in Airflow's database, found by their instance's id, started and ended from within the API server."""

from __future__ import annotations

import threading

import pytest
from airflow.utils.session import create_session

from airflow_monai.api.instances.ids import InstanceIds, RunName
from airflow_monai.api.instances.starting import RunsHere, end_run
from airflow_monai.hooks.airflow_api import DagNotThere
from airflow_monai.store.payloads import instance_id_of, run_id_of
from tests.api.airflow_rows import parse, run, state_of

WORKFLOW = """
name: look
version: "1"
informatics_gateway: {ae_title: LOOK}
tasks:
  - {id: route, type: router, task_destinations: []}
"""
PAYLOAD = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"


@pytest.fixture
def dag_id(airflow_tables: str, site_store: object) -> str:
    return parse(WORKFLOW)


def test_a_run_is_found_by_its_instance_s_id(dag_id: str) -> None:
    for kept in (1000, 2):
        ids = InstanceIds(kept)
        for number in range(3):
            run(dag_id, f"r{kept}-{number}")
            with create_session() as session:
                assert ids.run(instance_id_of(dag_id, "nothing"), session) is None
                for earlier in range(number + 1):
                    name = f"r{kept}-{earlier}"
                    assert ids.run(instance_id_of(dag_id, name).upper(), session) == RunName(dag_id, name)


def test_of_many_that_start_a_run_one_does(dag_id: str) -> None:
    made: list[bool] = []

    def start() -> None:
        made.append(RunsHere("anna").create_run(dag_id, run_id_of(PAYLOAD), PAYLOAD))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 5 + [True]
    assert state_of(dag_id, run_id_of(PAYLOAD)) == "queued"
    with pytest.raises(DagNotThere):
        RunsHere("anna").create_run("nothing", "r", PAYLOAD)


def test_a_run_is_ended_once(dag_id: str) -> None:
    run(dag_id, "r", "running")
    assert end_run(dag_id, "r") is True
    assert state_of(dag_id, "r") == "failed"
    assert end_run(dag_id, "r") is False
    with pytest.raises(LookupError):
        end_run(dag_id, "nothing")
