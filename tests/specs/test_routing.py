"""Which workflows want a study, and why not."""

from __future__ import annotations

import pytest

from airflow_monai.specs.plan import TaskPlan, TaskType, WorkflowPlan
from airflow_monai.specs.routing import Decision, decide
from airflow_monai.types import PatientDetails
from tests.specs.samples import payload

CT = {"1.1": {"00080060": ["CT"]}}


def workflow(**changes) -> WorkflowPlan:
    known = {
        "name": "CT lung",
        "dag_id": "ct-lung",
        "version": "1",
        "digest": "",
        "source": "",
        "ae_title": "CTLUNG",
        "tasks": (TaskPlan("a", TaskType.ROUTER),),
    }
    return WorkflowPlan(**{**known, **changes})


def one(plan: WorkflowPlan, tags=CT, **study) -> Decision:
    return decide(payload(**study), tags, [plan])[0]


def test_a_study_sent_to_the_ae_title_is_wanted():
    assert one(workflow()) == Decision("CT lung", "ct-lung", True, "sent to AE title 'CTLUNG'")


@pytest.mark.parametrize(
    ("plan", "study", "reason"),
    [
        (workflow(), {"called_aet": "ctlung"}, "listens to AE title 'CTLUNG'"),
        (workflow(data_origins=("MR01", "MR02")), {}, "takes studies of MR01, MR02, not of CT01"),
        (workflow(predicate=("{{ context.dicom.series.any('0008','0060') }} == 'MR'",)), {}, "== 'MR'\" is false"),
        (workflow(predicate=("'a' == 'a'", "{{ context.workflow.name }} == 'x'")), {}, "is false"),
        (workflow(predicate=("{{ context.input.patient_details.name }} > '1'",)), {}, "is not a number"),
        (workflow(predicate=("'a' =",)), {}, "cannot be evaluated"),
    ],
)
def test_a_study_that_is_not_wanted_is_told_why(plan: WorkflowPlan, study: dict, reason: str):
    decision = one(plan, **study, patient=PatientDetails(name="Doe^Jane"))
    assert not decision.wanted
    assert reason in decision.reason
    assert "Doe" not in decision.reason


@pytest.mark.parametrize(
    "plan",
    [
        workflow(data_origins=("MR01", "CT01")),
        workflow(predicate=("{{ context.dicom.series.any('0008','0060') }} == 'ct'",)),
        workflow(predicate=("{{ context.workflow.name }} == 'CT lung'", "{{ context.executions.a.status }} == NULL")),
    ],
)
def test_a_study_that_meets_every_demand_is_wanted(plan: WorkflowPlan):
    assert one(plan).wanted


def test_one_workflow_with_a_false_predicate_does_not_keep_others_from_the_study():
    decisions = decide(payload(), CT, [workflow(predicate=("'a' == 'b'",)), workflow(name="other")])
    assert [(decision.workflow_name, decision.wanted) for decision in decisions] == [
        ("CT lung", False),
        ("other", True),
    ]


def test_attributes_are_loaded_once_and_only_when_asked_for():
    loads: list[int] = []

    def load():
        loads.append(1)
        return CT

    decide(payload(), load, [workflow(), workflow(ae_title="OTHER", predicate=("'a' == 'a'",))])
    assert loads == []
    asking = workflow(predicate=("{{ context.dicom.series.any('0008','0060') }} == 'CT'",))
    assert all(decision.wanted for decision in decide(payload(), load, [asking, asking]))
    assert loads == [1]
