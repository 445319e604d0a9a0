"""The DAG of a workflow with tasks for each series and with tasks that go on: its groups, joins and extra nodes."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_monai.factory import build_dag
from airflow_monai.operators.gate import EdgeNode, GateOperator, RouterOperator
from airflow_monai.operators.join import JoinOperator, VerdictNode
from airflow_monai.operators.router import RecordedRouterOperator
from airflow_monai.operators.series import SeriesOperator
from airflow_monai.specs import load_workflow, plan_of
from tests.factory.plans import plan_of_text
from tests.specs.fixtures import FIXTURES

IN_GROUP = {
    "pick", "segment", "classify", "measure", "pick.to.segment", "pick.to.classify", "segment.to.measure",
    "segment.to.send", "classify.to.send", "measure.to.send",
}  # fmt: skip


def dag_of(*tasks: str) -> Any:
    head = ["name: joins", 'version: "1"', "informatics_gateway: {ae_title: X}", "tasks:"]
    return build_dag(plan_of_text("\n".join([*head, *(f"  - {task}" for task in tasks)])))


def router(task_id: str, *following: str, **more: str) -> str:
    destinations = ", ".join(f"{{name: {name}}}" for name in following)
    fields = "".join(f", {name}: {value}" for name, value in more.items())
    return f"{{id: {task_id}, type: router, task_destinations: [{destinations}]{fields}}}"


EACH = {"for_each": "series"}
CONTINUE = {"on_failure": "continue"}


@pytest.fixture(scope="module")
def dag() -> Any:
    return build_dag(plan_of(load_workflow(FIXTURES / "valid" / "for-each.yaml")))


def test_tasks_for_each_series_and_all_ways_from_them_are_one_mapped_group(dag: Any) -> None:
    groups = {task.task_id: task.task_group.group_id for task in dag.tasks}
    assert {task for task, group in groups.items() if group == "pick-each"} == IN_GROUP
    assert {task for task, group in groups.items() if group is None} == {
        "pick.series", "send", "send.join", "send.to.large", "send.to.complete", "large", "complete",
        "workflow.verdict",
    }  # fmt: skip
    group = dag.task_group.get_task_group_dict()["pick-each"]
    assert [task.task_id for task in group.iter_mapped_dependencies()] == ["pick.series"]


def test_the_ui_says_what_runs_for_each_series(dag: Any) -> None:
    assert "| segment | map, for each series | lung-seg:1.2.0 |" in dag.doc_md
    assert "| send | export |" in dag.doc_md


def test_the_series_are_counted_once_before_them(dag: Any) -> None:
    series = dag.task_dict["pick.series"]
    assert isinstance(series, SeriesOperator)
    assert [group.group_id for group in series.iter_mapped_dependants()] == ["pick-each"]
    assert dag.task_dict["pick"].upstream_task_ids == {"pick.series"}


def test_conditions_of_tasks_for_each_series_are_judged_in_the_triggerer(dag: Any) -> None:
    """What a worker skips has to be there already, and in a mapped group it may not be."""
    assert dag.task_dict["segment"].edges == []
    gate = dag.task_dict["segment.to.measure"]
    assert isinstance(gate, GateOperator)
    assert gate.start_trigger_args.trigger_kwargs["for_each"] == "series"
    assert dag.task_dict["send"].edges[0]["node"] == "send.to.large"


def test_operators_know_that_they_run_for_a_series_and_what_to_call_it(dag: Any) -> None:
    segment = dag.task_dict["segment"]
    assert (segment.for_each, segment.previous_task_id) == ("series", "pick")
    assert "series" in segment.map_index_template
    assert dag.task_dict["send"].for_each is None
    assert dag.task_dict["send"].map_index_template is None


def test_what_goes_on_is_decided_by_a_node_and_the_run_remembers_the_failure(dag: Any) -> None:
    join, verdict = dag.task_dict["send.join"], dag.task_dict["workflow.verdict"]
    ways = {"segment.to.send", "classify.to.send", "measure.to.send"}
    assert isinstance(join, JoinOperator) and isinstance(verdict, VerdictNode)
    assert (set(join.ways), join.upstream_task_ids, join.trigger_rule) == (ways, ways, "all_done")
    assert (verdict.upstream_task_ids, verdict.trigger_rule) == (ways, "none_failed")
    assert verdict.downstream_task_ids == set()
    assert (dag.task_dict["send"].upstream_task_ids, dag.task_dict["send"].trigger_rule) == (
        {"send.join"},
        "all_success",
    )


def test_a_way_out_has_a_node_for_each_series_without_a_condition_too() -> None:
    dag = dag_of(router("a", "b", **EACH), router("b"))
    assert dag.task_dict["a.to.b"].task_group.group_id == "a-each"
    assert dag.task_dict["b"].upstream_task_ids == {"a.to.b"}
    assert dag.task_dict["b"].trigger_rule == "none_failed_min_one_success"


def test_a_join_in_a_group_is_a_node_that_waits_for_the_count_of_the_series() -> None:
    dag = dag_of(router("a", "b", "c", **EACH), router("b", "c", **EACH), router("c", **EACH))
    join = dag.task_dict["c.join"]
    assert isinstance(join, JoinOperator)
    assert join.ways == ["a.to.c", "b.to.c"]
    assert join.upstream_task_ids == {"a.to.c", "b.to.c", "a.series"}
    assert (join.trigger_rule, join.task_group.group_id) == ("none_failed", "a-each")
    assert (dag.task_dict["c"].upstream_task_ids, dag.task_dict["c"].trigger_rule) == ({"c.join"}, "all_success")


def test_ways_of_the_study_that_join_in_the_first_task_for_each_series_join_before_it() -> None:
    dag = dag_of(router("a", "b", "c"), router("b", "c"), router("c", **EACH))
    join = dag.task_dict["c.join"]
    assert type(join) is EdgeNode and join.trigger_rule == "none_failed_min_one_success"
    assert join.task_group.group_id is None
    assert dag.task_dict["c"].upstream_task_ids == {"c.join", "c.series"}
    assert dag.task_dict["c.series"].upstream_task_ids == {"c.join"}


def test_with_several_ways_in_the_series_are_counted_unless_none_is_taken() -> None:
    dag = dag_of(
        router("r", "a", "b"),
        router("a", "c", **EACH),
        router("b", "c", "x", **EACH),
        router("c", **EACH),
        "{id: x, type: router}",
    )
    assert dag.task_dict["a.series"].upstream_task_ids == {"r"}  # one way that leads to two tasks
    two = dag_of(
        router("r", "a", "o"), router("o", "b"), router("a", "c", **EACH), router("b", "c", **EACH), router("c", **EACH)
    )
    unneeded, series = two.task_dict["a.unneeded"], two.task_dict["a.series"]
    assert (unneeded.upstream_task_ids, unneeded.trigger_rule) == ({"r", "o"}, "all_skipped")
    assert (series.upstream_task_ids, series.trigger_rule) == ({"a.unneeded"}, "all_skipped")


def test_regions_with_a_task_for_the_study_between_are_counted_each() -> None:
    dag = dag_of(router("a", "m", **EACH), router("m", "b"), router("b", **EACH))
    assert {task.task_id for task in dag.tasks} >= {"a.series", "b.series"}
    assert dag.task_dict["b.series"].upstream_task_ids == {"m"}


def test_going_on_means_nothing_where_one_task_comes_before() -> None:
    dag = dag_of(router("a", "b"), router("b", **CONTINUE))
    assert {task.task_id for task in dag.tasks} == {"a", "b"}


def test_a_group_has_a_name_that_no_task_has() -> None:
    dag = dag_of(router("a", "a-each", **EACH), router("a-each"))
    assert dag.task_dict["a"].task_group.group_id == "a-each_"


def test_a_router_leaves_a_record_only_where_somebody_asks_for_it() -> None:
    condition = "\"{{ context.executions.R.status }} == 'x'\""
    asking = f"{{id: r, type: router, task_destinations: [{{name: s, conditions: [{condition}]}}]}}"
    dag = dag_of(asking, router("s"))
    assert isinstance(dag.task_dict["r"], RecordedRouterOperator)
    assert dag.task_dict["r"].retries > 0
    assert type(dag.task_dict["s"]) is RouterOperator


def test_survives_airflows_serialisation(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    copy = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    without_worker = {
        task.task_id for task in copy.tasks if task.inherits_from_empty_operator or task.start_from_trigger
    }
    workers = {"pick.series", "segment", "classify", "measure", "send"}
    assert {task.task_id for task in copy.tasks} - without_worker == workers
    for task in copy.tasks:
        group = task.get_closest_mapped_task_group()
        assert (group is not None and group.group_id == "pick-each") == (task.task_id in IN_GROUP)
    group = copy.task_dict["segment"].get_closest_mapped_task_group()
    assert group is not None
    assert [task.task_id for task in group.iter_mapped_dependencies()] == ["pick.series"]
