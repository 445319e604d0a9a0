"""What follows a clinical review: the way for a rejection, and all the others, which are for an acceptance."""

from __future__ import annotations

import pytest

from airflow_monai.specs import load_text, plan_of
from airflow_monai.specs.conditions.parser import evaluate_all
from airflow_monai.specs.reviews import ReviewRoute, route_of, with_acceptance

ACCEPTANCE = "{{ context.executions.look.result.acceptance }}"
STATUS = "{{ context.executions.look.status }}"
OTHER = "{{ context.executions.segment.result.volume_ml }} > '500'"

ROUTES = [
    ([], ReviewRoute.ACCEPTED),
    ([OTHER], ReviewRoute.ACCEPTED),
    ([f"{ACCEPTANCE} == 'true'"], ReviewRoute.ACCEPTED),
    ([f"{STATUS} == 'Succeeded'"], ReviewRoute.ACCEPTED),
    ([f"{ACCEPTANCE} == 'false'"], ReviewRoute.REJECTED),
    ([f"{ACCEPTANCE} != 'TRUE'"], ReviewRoute.REJECTED),
    ([f"'False' == {ACCEPTANCE}"], ReviewRoute.REJECTED),
    ([f"{STATUS} == 'PartialFail'"], ReviewRoute.REJECTED),
    ([OTHER, f"{ACCEPTANCE} == 'false'"], ReviewRoute.REJECTED),
    ([f"{ACCEPTANCE} == 'false' AND {OTHER}"], ReviewRoute.REJECTED),
    ([f"{ACCEPTANCE} == 'false' OR {STATUS} == 'PartialFail'"], ReviewRoute.REJECTED),
    ([f"['False', 'x'] CONTAINS {ACCEPTANCE}"], ReviewRoute.REJECTED),
    ([f"['false', 'x'] CONTAINS {ACCEPTANCE}"], ReviewRoute.NEVER),  # it minds the case
    ([f"{ACCEPTANCE} == 'false' OR {OTHER}"], ReviewRoute.EITHER),
    ([f"{STATUS} != 'Failed'"], ReviewRoute.EITHER),
    (["{{ context.executions.look.result.reason }} == 'other'"], ReviewRoute.ACCEPTED),
    (["{{ context.executions.again.result.acceptance }} == 'false'"], ReviewRoute.ACCEPTED),
    ([f"{STATUS} == 'Rejected'"], ReviewRoute.NEVER),
]


@pytest.mark.parametrize(("conditions", "route"), ROUTES, ids=[" ; ".join(texts) or "none" for texts, _ in ROUTES])
def test_the_route_of_a_destination(conditions: list[str], route: ReviewRoute) -> None:
    assert route_of("look", conditions) is route


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "rejected"])
@pytest.mark.parametrize(("conditions", "route"), ROUTES, ids=[" ; ".join(texts) or "none" for texts, _ in ROUTES])
def test_only_a_way_for_a_rejection_is_taken_after_one(
    conditions: list[str], route: ReviewRoute, accepted: bool
) -> None:
    known = {
        "context.executions.look.result.acceptance": accepted,
        "context.executions.look.status": "Succeeded" if accepted else "PartialFail",
        "context.executions.look.result.reason": "other",
        "context.executions.again.result.acceptance": False,
        "context.executions.segment.result.volume_ml": 900,
    }
    taken = evaluate_all(with_acceptance("look", tuple(conditions)), known.get)
    meant_for_it = route is ReviewRoute.REJECTED
    assert taken is (meant_for_it if not accepted else not meant_for_it and evaluate_all(conditions, known.get))


def test_every_way_out_of_a_review_is_a_node_that_can_be_skipped() -> None:
    text = """
name: w
version: 1
informatics_gateway: {ae_title: A}
tasks:
  - {id: work, type: map, args: {map: "m:1"}, artifacts: {input: [{name: i, value: "{{ context.input.dicom }}"}]},
     task_destinations: [{name: look}]}
  - {id: look, type: clinical_review, args: {reviewed_task_id: work}, task_destinations: [{name: good}, {name: bad,
     conditions: ["{{ context.executions.LOOK.result.acceptance }} == 'false'"]}]}
  - {id: good, type: router}
  - {id: bad, type: router}
"""
    edges = {edge.target: edge for edge in plan_of(load_text(text, "w.yaml")).edges}
    assert edges["good"].conditions == ("{{ context.executions.look.status }} == 'Succeeded'",)
    assert edges["bad"].conditions == ("{{ context.executions.look.result.acceptance }} == 'false'",)
    assert (edges["good"].node_id, edges["bad"].node_id) == ("look.to.good", "look.to.bad")


EACH = """
name: each
version: 1.0.0
informatics_gateway: {ae_title: EACH, export_destinations: [PACS]}
tasks:
  - id: segment
    type: map
    for_each: series
    args: {map: "lung-seg:1.2.0"}
    artifacts:
      input: [{name: series, value: "{{ context.input.dicom }}"}]
      output: [{name: seg, type: SEG}]
    task_destinations: [{name: Look}, {name: other}]
  - id: Look
    type: clinical_review
    for_each: series
    args: {reviewed_task_id: SEGMENT}
    task_destinations:
      - {name: out}
      - {name: mark, conditions: ["{{ context.executions.look.result.acceptance }} == 'false'"]}
  - id: mark
    type: map
    for_each: series
    args: {map: "mark:1"}
    artifacts:
      input: [{name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}]
      output: [{name: marked, type: SEG}]
    task_destinations: [{name: out}]
  - id: other
    type: router
    for_each: series
    task_destinations: [{name: out}]
  - id: out
    type: export
    export_destinations: [{name: PACS}]
    artifacts:
      input:
        - {name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}
        - {name: marked, value: "{{ context.executions.mark.artifacts.marked }}", mandatory: false}
        - {name: study, value: "{{ context.input.dicom }}"}
"""


def test_what_was_reviewed_is_kept_from_all_that_is_for_the_accepted() -> None:
    """Also where other ways lead there; what is for the rejected only gets it as it is."""
    plan = plan_of(load_text(EACH, source="each.yaml"))
    given = {task.id: {item.name: item.reviews for item in task.inputs} for task in plan.tasks}
    assert given["out"] == {"seg": ("Look",), "marked": (), "study": ()}
    assert given["mark"] == {"seg": ()}
    assert given["segment"] == {"series": ()}
    assert type(plan).from_dict(plan.to_dict()) == plan
