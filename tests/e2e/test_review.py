"""People in a workflow, in a real Airflow: a review accepted and one rejected, an e-mail, an application that is mended
between two tries."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from airflow_monai.local.stack import LocalStack
from airflow_monai.types import TaskStatus
from tests.e2e.helpers import (
    Auditor,
    Maps,
    Study,
    add_workflows,
    export,
    make_study,
    record,
    send,
    task_log,
    wait_for_runs,
    wait_for_state,
    work,
    workflow,
)
from tests.mailbox import Mailbox

REVIEWED, MENDED = "reviewed", "mended"
REJECTED = "{{ context.executions.look.result.acceptance }} == 'false'"
SENT = "{{ context.executions.tell.result.sent }} == '1'"
REMARK = "Jane Doe was breathing"
TO = "ai@hospital.example"


def reviewed(reference: str) -> dict[str, Any]:
    """A review of what ``work`` made: accepted, it is sent; rejected, somebody is told, and then it is kept."""
    look = {
        "id": "look",
        "type": "clinical_review",
        "args": {
            "reviewed_task_id": "work",
            "reviewer_roles": "radiologist",
            "reasons": "wrong anatomy, image quality",
            "instructions": "Check the outline of **both** lungs.",
        },
        "task_destinations": [{"name": "send"}, {"name": "tell", "conditions": [REJECTED]}],
    }
    tell = {
        "id": "tell",
        "type": "email",
        "args": {
            "recipient_emails": TO,
            "metadata_values": "Modality",
            "subject": "Rejected: {{ context.executions.look.result.reason }}",
        },
        "task_destinations": [{"name": "keep", "conditions": [SENT]}],
    }
    keep = export("keep", ["ARCHIVE"], type="export_hl7")
    return workflow(REVIEWED, "REVIEWED", work(reference, {"name": "look"}), look, export(), tell, keep)


def mended(reference: str) -> dict[str, Any]:
    # more tries than one: it may be mended only while the second one has begun already
    task = work(reference, {"name": "send"}, retries=9, retry_delay="3s", retry_policy={"exit_code": "retry"})
    return workflow(MENDED, "MENDED", task, export())


@dataclass(frozen=True)
class Reviews:
    """Two studies whose runs have ended: one accepted, one rejected."""

    accepted: Study
    rejected: Study


@pytest.fixture(scope="module")
def reviews(stack: LocalStack, maps: Maps, tmp_path_factory: pytest.TempPathFactory) -> Reviews:
    add_workflows(stack, reviewed(maps.reference()))
    folder = tmp_path_factory.mktemp("reviews")
    found = Reviews(make_study(folder, "REVIEWED"), make_study(folder, "REVIEWED"))
    send(stack, found.accepted, found.rejected, senders=2)
    for study in (found.accepted, found.rejected):
        wait_for_state(stack, REVIEWED, study.run_id, "look", "awaiting_input")
    time.sleep(3)  # nobody reads and answers sooner
    settle(stack, found.accepted, "Accept", reason="no reason given", message=None)
    settle(stack, found.rejected, "Reject", reason="wrong anatomy", message=REMARK)
    wait_for_runs(stack, REVIEWED, 2)
    return found


def hitl(study: Study) -> str:
    return f"/dags/{REVIEWED}/dagRuns/{study.run_id}/taskInstances/look/-1/hitlDetails"


def answer(stack: LocalStack, study: Study, option: str, **given: Any) -> None:
    """Answer as the page of required actions does."""
    stack.api.call("PATCH", hitl(study), {"chosen_options": [option], "params_input": given})


def settle(stack: LocalStack, study: Study, option: str, **given: Any) -> None:
    """Answer, and see to it that the answer is taken.

    One that comes before the scheduler has seen the end of the process that asked, a second or two later, is lost on
    Airflow: it takes the end for that of the task, tries it again, and so the review asks again.
    """

    def is_taken() -> bool:
        (ti,) = [ti for ti in stack.task_instances(REVIEWED, study.run_id) if ti["task_id"] == "look"]
        if ti["state"] == "awaiting_input":
            answer(stack, study, option, **given)
        return bool(ti["state"] == "success")

    stack.wait_for(is_taken, seconds=300, what=f"the answer of {study.run_id}", every=2)


def states(stack: LocalStack, study: Study) -> dict[str, str | None]:
    return {task: state for task, state in stack.states(REVIEWED, study.run_id).items() if "." not in task}


def test_what_is_accepted_reaches_the_pacs(stack: LocalStack, auditor: Auditor, reviews: Reviews) -> None:
    assert states(stack, reviews.accepted) == {
        "work": "success",
        "look": "success",
        "send": "success",
        "tell": "skipped",
        "keep": "skipped",
    }
    assert len(auditor.results_of(reviews.accepted.uid)) == 1
    kept = record(stack, REVIEWED, reviews.accepted, "look")
    assert kept is not None and kept.status is TaskStatus.SUCCEEDED


def test_what_is_rejected_goes_nowhere_but_its_own_way_and_the_run_does_not_fail(
    stack: LocalStack, auditor: Auditor, reviews: Reviews, mail: Mailbox
) -> None:
    study = reviews.rejected
    runs = {run["dag_run_id"]: run["state"] for run in stack.runs(REVIEWED)}
    assert runs[study.run_id] == "success"
    assert states(stack, study) == {
        "work": "success",
        "look": "success",
        "send": "skipped",
        "tell": "success",
        "keep": "success",
    }
    assert auditor.results_of(study.uid) == []
    kept = record(stack, REVIEWED, study, "look")
    assert kept is not None and kept.status is TaskStatus.PARTIAL_FAIL
    assert {name: kept.result[name] for name in ("acceptance", "reason", "message", "user_id")} == {
        "acceptance": False,
        "reason": "wrong anatomy",
        "message": REMARK,
        "user_id": "admin",
    }
    ((to, message),) = mail.arrived
    assert (list(to), message["Subject"]) == ([TO], "Rejected: wrong anatomy")
    assert "Modality: CT" in message.get_content()
    assert list((stack.layout.archive / study.payload_id).rglob("*.dcm")), "kept as the author wants after a rejection"


def test_a_reviewer_reads_no_patient_data_and_the_remark_stays_with_the_answer(
    stack: LocalStack, reviews: Reviews
) -> None:
    detail = stack.api.call("GET", hitl(reviews.rejected))
    asked = f"{detail['subject']}\n{detail['body']}"
    assert "radiologist" in asked and "[work](" in asked and "| result | OT | 1 |" in asked
    assert f"airflow monai payloads show {reviews.rejected.payload_id}" in asked
    assert reviews.rejected.uid not in asked
    assert detail["params_input"]["message"] == REMARK, "Airflow keeps it here; the form warns of it"
    run_id = reviews.rejected.run_id
    xcoms = stack.api.call("GET", f"/dags/{REVIEWED}/dagRuns/{run_id}/taskInstances/~/xcomEntries", limit=100)
    values = [stack.api.xcom(REVIEWED, run_id, entry["task_id"], entry["key"]) for entry in xcoms["xcom_entries"]]
    assert values and REMARK not in json.dumps(values)
    (look,) = [ti for ti in stack.task_instances(REVIEWED, run_id) if ti["task_id"] == "look"]
    log = task_log(stack, REVIEWED, run_id, "look", look["try_number"])  # a lost answer is asked for again: `settle`
    assert "Rejected by user" in log and REMARK not in log


def test_a_review_is_answered_once(stack: LocalStack, reviews: Reviews) -> None:
    with pytest.raises(requests.HTTPError, match="409"):
        answer(stack, reviews.rejected, "Accept", reason=None, message=None)


def test_an_application_that_was_mended_succeeds_at_a_later_try(
    stack: LocalStack, auditor: Auditor, maps: Maps, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reference = maps.reference("exit7", "0.1")
    add_workflows(stack, mended(reference))
    study = make_study(tmp_path_factory.mktemp("mended"), "MENDED")
    send(stack, study)

    def has_failed() -> bool:
        found = record(stack, MENDED, study, "work")
        return found is not None and found.stats.get("error_kind") == "exit_code"

    stack.wait_for(has_failed, seconds=240, what="the first try", every=0.1)
    maps.mend(reference)
    (run,) = wait_for_runs(stack, MENDED, 1).values()
    (ti,) = [ti for ti in stack.task_instances(MENDED, study.run_id) if ti["task_id"] == "work"]
    assert (run["state"], ti["state"]) == ("success", "success") and ti["try_number"] > 1
    assert len(auditor.results_of(study.uid)) == 1
