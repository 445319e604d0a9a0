"""Which tasks for each series belong together, and which ways leave them and come back."""

from __future__ import annotations

from itertools import pairwise

from airflow_monai.specs import load_text, plan_of
from airflow_monai.specs.regions import Region, regions_of, returns


def test_tasks_that_follow_each_other_are_one_region_however_they_are_listed() -> None:
    ways = [("a", "c"), ("b", "c"), ("c", "out"), ("in", "a"), ("in", "b"), ("in", "d")]
    assert regions_of(["a", "b", "c", "d"], ways) == (Region(("a", "b", "c")), Region(("d",)))


def test_tasks_with_one_between_that_is_for_the_whole_study_are_two_regions() -> None:
    assert regions_of(["a", "b"], [("a", "all"), ("all", "b")]) == (Region(("a",)), Region(("b",)))


def test_a_way_that_leaves_and_comes_back_is_told_with_its_path() -> None:
    ways = [("a", "b"), ("a", "out"), ("out", "far"), ("far", "b"), ("b", "end")]
    (region,) = regions_of(["a", "b"], ways)
    assert list(returns(region, ways)) == [("a", "out", "far", "b")]


def test_a_way_through_another_region_comes_back_too() -> None:
    ways = [("a", "d"), ("a", "x"), ("x", "b"), ("b", "y"), ("y", "d")]
    first, second = regions_of(["a", "b", "d"], ways)
    assert (first.tasks, second.tasks) == (("a", "d"), ("b",))
    assert list(returns(first, ways)) == [("a", "x", "b", "y", "d")]
    assert list(returns(second, ways)) == []


def test_a_thousand_tasks_take_no_time() -> None:
    ids = [f"t{number}" for number in range(1000)]
    ways = list(pairwise(ids))
    (region,) = regions_of(ids, ways)
    assert region.first == "t0"
    assert list(returns(region, ways)) == []


FILTERED = """\
name: filtered
version: 1.0.0
informatics_gateway: {ae_title: AE, export_destinations: [PACS]}
tasks:
  - id: work
    type: map
    for_each: series
    args: {map: "a:1"}
    artifacts:
      input: [{name: in, value: "{{ context.input.dicom }}"}]
      output: [{name: out}]
    task_destinations:
      - {name: send, conditions: ["{{ context.executions.work.result.n }} > '1'"]}
%s
  - id: send
    type: export
    export_destinations: [{name: PACS}]
    artifacts: {input: [{name: out, value: "{{ context.executions.work.artifacts.out }}"}]}
"""
BESIDE = """\
      - {name: more, conditions: ["{{ context.executions.work.result.n }} <= '1'"]}
  - id: more
    type: router
    for_each: series
    task_destinations: [{name: send}]"""


def test_a_conditional_way_out_of_tasks_for_each_series_says_whose_results_come_along():
    (artifact,) = plan_of(load_text(FILTERED % "", "filtered.yaml")).task("send").inputs
    assert artifact.conditions == ("{{ context.executions.work.result.n }} > '1'",)


def test_what_may_have_come_another_way_is_not_held_back():
    (artifact,) = plan_of(load_text(FILTERED % BESIDE, "filtered.yaml")).task("send").inputs
    assert artifact.conditions == ()
