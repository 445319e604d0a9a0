"""Tasks that call services, from a workflow's text to their end in Airflow's DAG test mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from airflow_monai.factory.builder import build_dag
from airflow_monai.factory.compile import compile_plan
from airflow_monai.operators.http import HttpJobOperator, HttpRequestOperator
from tests.http_service import HttpService, http_service

VOLUME = "{{ context.executions.score.result.volume }}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpService]:
    with http_service(tmp_path_factory.mktemp("service")) as running:
        yield running


def text(service: HttpService, path: str) -> str:
    job = {"url": f"{service.url}/jobs", "job_id": "job.id", "status_key": "job.state", "poll_interval": "0.5"}
    tasks = [
        {
            "id": "score",
            "type": "http",
            "args": {"url": service.url + path},
            "task_destinations": [
                {"name": "job", "conditions": [f"{VOLUME} > '500'"]},
                {"name": "none", "conditions": [f"{VOLUME} <= '500'"]},
            ],
        },
        {"id": "job", "type": "http_async", "args": job, "timeout_minutes": 5},
        {"id": "none", "type": "router"},
    ]
    spec = {"name": "http", "version": "1", "informatics_gateway": {"ae_title": "HTTP"}, "tasks": tasks}
    return yaml.safe_dump(spec)


def test_the_operators_that_it_becomes(service: HttpService) -> None:
    dag = build_dag(compile_plan(text(service, "/result"), "http.yaml"))
    score, job = dag.get_task("score"), dag.get_task("job")
    assert isinstance(score, HttpRequestOperator) and isinstance(job, HttpJobOperator)
    assert (score.retries, job.retries) == (2, 2)
    assert job.light_task["request"]["status_key"] == "job.state" and job.light_task["timeout_seconds"] == 300
    assert score.light_task["result_keys"] == ["volume"]


@pytest.mark.parametrize(
    ("path", "states"),
    [
        ("/result", {"score": "success", "job": "success", "none": "skipped"}),
        ("/status/404", {"score": "failed", "job": "upstream_failed", "none": "upstream_failed"}),
    ],
)
def test_in_dag_test_mode(dag_test_server: Any, service: HttpService, path: str, states: dict[str, str]) -> None:
    before = len(service.asked("/jobs", "POST"))
    answer = dag_test_server.run(text(service, path), {})
    assert {task: answer["tasks"][task] for task in states} == states
    assert len(service.asked("/jobs", "POST")) - before == (states["job"] == "success")
