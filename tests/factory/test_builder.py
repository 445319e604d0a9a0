"""The DAG that a plan becomes: what a user sees in the UI, and what Airflow will do with it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_monai.errors import MonaiError
from airflow_monai.factory import build_dag
from airflow_monai.factory.kinds.map import EXECUTION_GRACE, execution_timeout
from airflow_monai.gpu.pools import PoolRequest
from airflow_monai.operators.gate import EdgeNode, GateOperator, RouterOperator
from airflow_monai.specs.plan import Resources, TaskType, WorkflowPlan
from tests.factory.plans import plan_of_text


@pytest.fixture(scope="module")
def plan() -> WorkflowPlan:
    return plan_of_text()


@pytest.fixture(scope="module")
def dag(plan: WorkflowPlan) -> Any:
    return build_dag(plan)


def test_one_task_for_each_spec_task_and_one_node_for_each_edge_that_needs_it(dag: Any) -> None:
    from airflow_monai.operators.export import ExportOperator
    from airflow_monai.operators.map import MapOperator

    assert {task.task_id: type(task) for task in dag.tasks} == {
        "route": RouterOperator,
        "segment": MapOperator,
        "to-pacs": ExportOperator,
        "archive": ExportOperator,
        "route.to.segment": GateOperator,
        "route.to.archive": EdgeNode,
        "segment.to.to-pacs": EdgeNode,
        "segment.to.archive": EdgeNode,
    }


def test_a_joins_predecessors_are_its_edges_only(dag: Any) -> None:
    archive = dag.task_dict["archive"]
    assert archive.upstream_task_ids == {"route.to.archive", "segment.to.archive"}
    assert archive.trigger_rule == "none_failed_min_one_success"
    assert dag.task_dict["to-pacs"].trigger_rule == "all_success"


def test_an_edge_without_condition_to_one_that_is_no_join_is_a_plain_dependency() -> None:
    text = """\
name: chain
version: "1"
informatics_gateway: {ae_title: X}
tasks:
  - {id: a, type: router, task_destinations: [{name: b}]}
  - {id: b, type: router}
"""
    dag = build_dag(plan_of_text(text))
    assert dag.task_dict["b"].upstream_task_ids == {"a"}


def test_nothing_waits_for_a_router_that_only_begins_the_workflow() -> None:
    """The edge is there to see, and to clear along; only the scheduler does not have to end the router first."""
    text = """
name: x
version: "1"
informatics_gateway: {ae_title: X}
tasks:
  - {id: a, type: router, task_destinations: [{name: b, conditions: ["'1' == '1'"]}, {name: c}]}
  - {id: b, type: router, task_destinations: [{name: c, conditions: ["'1' == '1'"]}]}
  - {id: c, type: router}
"""
    dag = build_dag(plan_of_text(text))
    assert {task.task_id: task.trigger_rule for task in dag.tasks} == {
        "a": "all_success",
        "a.to.b": "always",
        "a.to.c": "always",
        "b": "all_success",
        "b.to.c": "all_success",
        "c": "none_failed_min_one_success",
    }
    assert dag.task_dict["a.to.b"].upstream_task_ids == {"a"}


@pytest.mark.parametrize(
    ("first", "condition"),
    [
        ("for_each: series", "'1' == '1'"),
        ("description: asked for", "{{ context.executions.a.status }} == 'Succeeded'"),
    ],
)
def test_a_router_that_leaves_a_record_or_runs_for_each_series_is_waited_for(first: str, condition: str) -> None:
    text = f"""
name: x
version: "1"
informatics_gateway: {{ae_title: X}}
tasks:
  - {{id: a, type: router, {first}, task_destinations: [{{name: b, conditions: ["{condition}"]}}]}}
  - {{id: b, type: router}}
"""
    dag = build_dag(plan_of_text(text))
    assert dag.task_dict["a.to.b"].trigger_rule == "all_success"


def test_a_heavy_task_gets_the_edges_that_it_must_judge(dag: Any) -> None:
    conditions = ["{{ context.executions.segment.result.volume_ml }} > '500'"]
    assert dag.task_dict["segment"].edges == [
        {"node": "segment.to.to-pacs", "conditions": conditions, "behind": ["to-pacs"]}
    ]
    assert dag.task_dict["segment"].result_keys == ["volume_ml"]


def test_what_the_spec_says_of_a_map_reaches_its_operator(dag: Any) -> None:
    segment = dag.task_dict["segment"]
    assert segment.map == "lung-seg:1.2.0"
    assert segment.inputs[0]["value"] == "{{ context.input.dicom }}"
    assert segment.outputs[0]["name"] == "seg"
    assert (segment.retries, segment.retry_delay) == (3, timedelta(seconds=30))
    assert segment.timeout_minutes == 30
    assert timedelta(minutes=30) < segment.execution_timeout <= timedelta(minutes=60)
    assert dag.task_dict["to-pacs"].destinations == ["PACS"]


@pytest.mark.parametrize(("site", "said", "minutes"), [("20", 30, 20), ("40", 30, 30), ("20", 0, 20), ("0", 0, None)])
def test_airflow_ends_no_task_later_than_the_site_allows(
    site: str, said: float, minutes: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose container nobody can end, or whose image never comes."""
    monkeypatch.setenv("AIRFLOW__MONAI__MAX_TIMEOUT_MINUTES", site)
    assert execution_timeout(said) == (timedelta(minutes=minutes) + EXECUTION_GRACE if minutes else None)


def test_started_by_arrival_at_its_ae_title_from_its_origins_or_by_name(dag: Any) -> None:
    assert {asset.uri for asset in dag.timetable.asset_condition.objects} == {
        "x-monai://ae/CT%20LUNG/from/CT01",
        "x-monai://ae/CT%20LUNG/from/CT%2F2",
        "x-monai://workflow/ct%20lung",
    }


def test_a_workflow_of_any_origin_listens_to_its_ae_title(plan: WorkflowPlan) -> None:
    dag = build_dag(replace(plan, data_origins=()))
    uris = {asset.uri for asset in dag.timetable.asset_condition.objects}
    assert "x-monai://ae/CT%20LUNG" in uris


def test_what_the_ui_shows(dag: Any, plan: WorkflowPlan) -> None:
    assert dag.dag_display_name == "ct lung"
    assert dag.description == "Finds lungs"
    assert dag.tags == {"monai", "CT LUNG", "v1.0.0", plan.digest[:8]}
    assert dag.owner == "monai"
    assert plan.digest[:12] in dag.doc_md and "| segment | map | lung-seg:1.2.0 |" in dag.doc_md
    assert "volume_ml" in dag.task_dict["segment.to.to-pacs"].doc_md


def test_runs_at_once_within_explicit_limits(dag: Any) -> None:
    assert dag.is_paused_upon_creation is False
    assert dag.catchup is False
    assert (dag.max_active_runs, dag.max_active_tasks) == (64, 64)


def test_survives_airflows_serialisation_and_only_workers_tasks_need_a_worker(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    copy = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    without_worker = {
        task.task_id for task in copy.tasks if task.inherits_from_empty_operator or task.start_from_trigger
    }
    assert {task.task_id for task in copy.tasks} - without_worker == {"segment", "to-pacs", "archive"}


def test_only_ids_and_the_specs_own_text_are_kept_as_a_gates_arguments(dag: Any) -> None:
    kwargs = dag.task_dict["route.to.segment"].start_trigger_args.trigger_kwargs
    workflow = {"conditions", "behind", "workflow_name", "workflow_description", "workflow_params", "for_each"}
    assert set(kwargs) == {"payload_id", "dag_id", "run_id", "map_index", "conf"} | workflow
    assert kwargs["behind"] == ["archive", "segment", "to-pacs"]


def test_a_task_that_wants_a_card_gets_its_pool(plan: WorkflowPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = PoolRequest("gpu_a100", 12)
    monkeypatch.setattr("airflow_monai.gpu.pools.request_of", lambda resources, inventory, urgent: wanted)
    segment = build_dag(_wants_card(plan), inventory=lambda: None).task_dict["segment"]
    assert (segment.pool, segment.pool_slots) == ("gpu_a100", 12)


def test_a_request_that_can_never_fit_is_an_error_at_load(plan: WorkflowPlan) -> None:
    with pytest.raises(MonaiError, match="inventory"):
        build_dag(_wants_card(plan), inventory=lambda: None)


def test_a_worker_does_not_fail_a_task_for_its_cards_that_has_its_place(
    plan: WorkflowPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", plan.dag_id)
    assert build_dag(_wants_card(plan), inventory=lambda: None).task_dict["segment"].pool == "default_pool"


def test_an_export_runs_in_the_pool_of_its_destination_or_its_own_and_has_a_deadline(
    plan: WorkflowPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = next(task for task in plan.tasks if task.type is TaskType.EXPORT)
    assert build_dag(plan).task_dict[export.id].pool == "default_pool"
    monkeypatch.setenv("AIRFLOW__MONAI__EXPORT_POOLS", json.dumps({export.export_destinations[0]: "to_pacs"}))
    by_site = build_dag(plan).task_dict[export.id]
    assert (by_site.pool, by_site.deadline_minutes) == ("to_pacs", None)
    own = replace(export, args={"Pool": "mine", "deadline_minutes": "30"})
    tasks = tuple(own if task is export else task for task in plan.tasks)
    by_itself = build_dag(replace(plan, tasks=tasks)).task_dict[export.id]
    assert (by_itself.pool, by_itself.deadline_minutes) == ("mine", 30.0)


def _wants_card(plan: WorkflowPlan) -> WorkflowPlan:
    resources = Resources(gpu_memory="12Gi")
    tasks = [replace(task, resources=resources) if task.id == "segment" else task for task in plan.tasks]
    return replace(plan, tasks=tuple(tasks))
