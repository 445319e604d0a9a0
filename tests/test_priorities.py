"""The weights that the scheduler orders waiting tasks by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from airflow_monai.factory.builder import build_dag
from airflow_monai.priorities import is_batch_run, job_weight
from airflow_monai.specs import load_text, plan_of
from airflow_monai.store.payloads import batch_run_id, job_run_id, payload_id_of, run_id_of

PAYLOAD = payload_id_of("1.2", "A", 0)
LIVE, BATCH = run_id_of(PAYLOAD), batch_run_id(PAYLOAD, 2)
TEXT = """
name: p
version: 1
informatics_gateway: {{ae_title: P}}
{workflow}
tasks:
  - {{id: first, type: router, task_destinations: [{{name: second}}]}}
  - {{id: second, type: router{task}}}
"""


def weights(workflow: str, task: str, run_id: str) -> list[int]:
    """Of both tasks, as the scheduler has them after serialisation."""
    plan = plan_of(load_text(TEXT.format(workflow=workflow, task=task), "p.yaml"))
    dag = DagSerialization.from_dict(DagSerialization.to_dict(build_dag(plan)))
    made: Any = [SimpleNamespace(task=dag.get_task(name), run_id=run_id) for name in ("first", "second")]
    return [ti.task.weight_rule.get_weight(ti) for ti in made]


def test_a_run_tells_by_its_id_that_a_batch_started_it() -> None:
    assert is_batch_run(BATCH)
    assert not any(map(is_batch_run, (LIVE, f"{LIVE}__r2", "manual__2026-03-01", "", None)))


@pytest.mark.parametrize(
    ("workflow", "task", "expected"),
    [
        ("", "", [20, 20]),
        ("priority: urgent", "", [30, 30]),
        ("priority: urgent", ", priority: batch", [30, 10]),
        ("priority: batch", ", priority: routine", [10, 20]),
    ],
)
def test_a_tasks_own_priority_or_the_workflows(workflow: str, task: str, expected: list[int]) -> None:
    assert weights(workflow, task, LIVE) == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("", [5, 5]), (", priority: batch", [5, 5]), (", priority: routine", [15, 15]), (", priority: urgent", [15, 25])],
)
def test_a_batchs_run_stands_behind_live_ones_of_its_priority(schedule: str, expected: list[int]) -> None:
    workflow = f'schedule: {{cron: "@daily"{schedule}}}'
    assert weights(workflow, ", priority: urgent", BATCH) == expected
    assert weights(workflow, ", priority: urgent", LIVE) == [20, 30]


@pytest.mark.parametrize(("priority", "expected"), [("urgent", 30), ("routine", 20), ("batch", 10)])
def test_a_job_has_its_own_priority(priority: str, expected: int) -> None:
    run_id = job_run_id(PAYLOAD, priority, "b123" * 4)
    assert job_weight(run_id) == expected and not is_batch_run(run_id)
    plan = plan_of(load_text(TEXT.format(workflow="priority: routine", task=""), "maps/p/1.map"))
    dag = DagSerialization.from_dict(DagSerialization.to_dict(build_dag(plan)))
    made: Any = SimpleNamespace(task=dag.get_task("first"), run_id=run_id)
    assert made.task.weight_rule.get_weight(made) == expected


def test_other_runs_are_no_jobs() -> None:
    assert [job_weight(run_id) for run_id in (LIVE, BATCH, f"{LIVE}__r2", None)] == [None] * 4
