"""Reviews, e-mails and exports of any kind as tasks of a DAG."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_monai.factory.builder import build_dag
from airflow_monai.operators.email import EmailOperator
from airflow_monai.operators.export import Hl7ExportOperator
from airflow_monai.operators.gate import GateOperator
from airflow_monai.operators.remote_app import RemoteAppOperator
from airflow_monai.operators.review import ClinicalReviewOperator
from tests.factory.plans import plan_of_text

TEXT = """\
name: people
version: 1.0.0
informatics_gateway: {ae_title: PEOPLE, export_destinations: [ARCHIVE, EXT]}
tasks:
  - id: Segment
    type: map
    args: {map: "registry.example:5000/ai/lung-seg:1.2.0"}
    retry_policy: {Exit_Code: RETRY}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: seg, type: SEG}, {name: report, type: SR, mandatory: false}]
    task_destinations: [{name: look}]
  - id: look
    type: aide_clinical_review
    args: {reviewed_task_id: segment, reviewer_roles: "radiologist, clinician", mode: research, notifications: "true"}
    task_destinations:
      - {name: keep}
      - {name: tell, conditions: ["{{ context.executions.look.result.acceptance }} == 'false'"]}
  - id: keep
    type: export_hl7
    export_destinations: [{name: ARCHIVE}]
    artifacts: {input: [{name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}]}
  - id: tell
    type: email
    args: {Recipient_Emails: "a@hospital.example, b@hospital.example", metadata_values: Modality}
    task_destinations: [{name: elsewhere}]
  - id: elsewhere
    type: remote_app_execution
    export_destinations: [{name: EXT}]
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: seg, type: SEG}]
"""


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    return dict(build_dag(plan_of_text(TEXT)).task_dict)


def test_a_review_knows_what_it_is_of(tasks: dict[str, Any]) -> None:
    look = tasks["look"]
    assert isinstance(look, ClinicalReviewOperator)
    assert (look.reviewed_task_id, look.application, look.mode) == ("Segment", "lung-seg 1.2.0", "Research")
    assert look.reviewer_roles == ["radiologist", "clinician"]
    assert look.response_timeout == timedelta(days=4), "as published"
    assert [(item["name"], item["type"], item["mandatory"]) for item in look.inputs] == [
        ("seg", "SEG", True),
        ("report", "SR", False),
    ]


def test_every_way_out_of_a_review_is_judged_by_its_record_also_when_a_person_marks_it(tasks: dict[str, Any]) -> None:
    assert tasks["look"].downstream_task_ids == {"look.to.keep", "look.to.tell"}
    for way in ("look.to.keep", "look.to.tell"):
        assert isinstance(tasks[way], GateOperator) and tasks[way].conditions


def test_a_review_of_each_series_leaves_its_ways_to_gates() -> None:
    text = TEXT
    for task in ("Segment", "look", "keep", "tell"):
        text = text.replace(f"- id: {task}\n", f"- id: {task}\n    for_each: series\n")
    dag = build_dag(plan_of_text(text))
    look = dag.task_dict["look"]
    assert (look.edges, look.for_each, look.skips_successors) == ([], "series", False)
    gates = {task: dag.task_dict[task] for task in look.downstream_task_ids}
    assert {gate.conditions[0] for gate in gates.values() if isinstance(gate, GateOperator)} == {
        "{{ context.executions.look.status }} == 'Succeeded'",
        "{{ context.executions.look.result.acceptance }} == 'false'",
    }


def test_the_others_get_what_their_file_says(tasks: dict[str, Any]) -> None:
    assert isinstance(tasks["keep"], Hl7ExportOperator)
    assert isinstance(tasks["elsewhere"], RemoteAppOperator)
    assert isinstance(tasks["tell"], EmailOperator)
    told = tasks["tell"].light_task
    assert told["recipient_emails"] == ["a@hospital.example", "b@hospital.example"]
    assert told["metadata"] == [["Modality", "00080060"]]
    assert tasks["Segment"].failure_policy == {"exit_code": "retry"}


def test_what_goes_on_after_a_review_knows_it(tasks: dict[str, Any]) -> None:
    """So that nothing rejected is sent, whichever way the run came there."""
    assert [item.get("reviews") for item in tasks["keep"].inputs] == [["look"]]
    assert [item.get("reviews") for item in tasks["elsewhere"].inputs] == [None]
