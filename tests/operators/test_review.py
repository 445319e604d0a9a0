"""A clinical review after its answer has come; how it asks is seen in a real Airflow (tests/e2e/test_review.py)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskDeferred

from airflow_monai.operators.gate import EdgeNode, GateOperator
from airflow_monai.operators.review import ClinicalReviewOperator
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import TaskRecord, TaskStatus
from tests.operators.map_tasks import DAG_ID, context_of, make_payload, run_folder

AT = datetime(2026, 5, 4, 10, 0, tzinfo=timezone.utc)
SECRET = "Jane Doe moved her head"
ACCEPTED = ["{{ context.executions.look.status }} == 'Succeeded'"]
REJECTED = ["{{ context.executions.look.result.acceptance }} == 'false'"]


def answer(option: str, **params: Any) -> dict[str, Any]:
    """The event that Airflow resumes a task with."""
    return {
        "chosen_options": [option],
        "params_input": params,
        "responded_at": AT,
        "responded_by_user": {"id": "anna", "name": "Anna"},
        "timedout": False,
    }


class Site:
    """A store with a payload, and a review over it."""

    def __init__(self, store: str):
        self.payload_id = make_payload(store, slices=1)
        self.folder: RunFolder = run_folder(store, self.payload_id)

    def review(self, **arguments: Any) -> ClinicalReviewOperator:
        known = {"reviewed_task_id": "segment", "reasons": ["wrong anatomy"], "response_timeout": timedelta(days=4)}
        edges = [{"node": "ok", "conditions": ACCEPTED}, {"node": "bad", "conditions": REJECTED}]
        return ClinicalReviewOperator(**{"task_id": "look", "edges": edges, **known, **arguments})

    def complete(self, review: ClinicalReviewOperator, event: dict[str, Any], **how: Any) -> dict[str, Any]:
        """Give the answer; the XComs it leaves, and the skipped tasks as ``skipped``."""
        context = context_of(review, self.payload_id, **how)
        skipped: list[str] = []
        try:
            review.execute_complete(context, event)
        except DownstreamTasksSkipped as skip:
            skipped = [task for task, _ in skip.tasks]
        return {**context["ti"].xcom, "skipped": skipped}

    def record(self) -> TaskRecord:
        record = self.folder.record("look")
        assert record is not None
        return record


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", str(tmp_path / "store"))
    return Site(str(tmp_path / "store"))


def test_an_acceptance_goes_on(site: Site) -> None:
    left = site.complete(site.review(), answer("Accept", reason="no reason given", message=None))
    assert left["skipped"] == ["bad"]
    record = site.record()
    assert record.status is TaskStatus.SUCCEEDED
    assert record.result == {
        "acceptance": True,
        "reason": None,
        "message": None,
        "user_id": "anna",
        "user_name": "Anna",
        "answered": "2026-05-04T10:00:00+00:00",
    }


def test_a_rejection_starts_only_what_is_meant_for_it(site: Site) -> None:
    left = site.complete(site.review(), answer("Reject", reason="wrong anatomy", message=""))
    assert left["skipped"] == ["ok"]
    assert left["return_value"]["status"] == "PartialFail"
    assert (site.record().status, site.record().result["reason"]) == (TaskStatus.PARTIAL_FAIL, "wrong anatomy")


def test_the_free_text_stays_in_the_store(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["acceptance", "message", "reason", "user_id"]
    left = site.complete(site.review(result_keys=keys), answer("Reject", reason="wrong anatomy", message=SECRET))
    assert site.record().result["message"] == SECRET
    assert left["return_value"]["result"] == {"acceptance": False, "reason": "wrong anatomy", "user_id": "anna"}
    assert SECRET not in json.dumps(left) + "".join(capsys.readouterr())


def test_a_reason_that_the_review_does_not_offer_is_free_text(site: Site) -> None:
    """The REST API takes any value, whatever the form says."""
    left = site.complete(site.review(result_keys=["reason"]), answer("Reject", reason=SECRET, message="see notes"))
    assert left["return_value"]["result"] == {"reason": None}
    assert site.record().result["message"] == f"{SECRET}\nsee notes"


def test_nothing_follows_a_rejection_in_a_hand_written_dag_either(site: Site) -> None:
    with DAG(DAG_ID):
        review = site.review(edges=[{"node": "bad", "conditions": REJECTED}])
        _ = review >> [EdgeNode(task_id="export"), EdgeNode(task_id="bad")]
    assert site.complete(review, answer("Accept"))["skipped"] == ["bad"]
    assert site.complete(review, answer("Reject"), try_number=2, cleared=1)["skipped"] == ["export"]


def test_edges_that_are_judged_in_the_triggerer_are_left_to_it(site: Site) -> None:
    """Those of a review for each series: some ask for the rejection, all others for the acceptance."""
    with DAG(DAG_ID):
        review = site.review(edges=[])
        _ = review >> [EdgeNode(task_id="export"), GateOperator(task_id="bad", conditions=REJECTED)]
    assert site.complete(review, answer("Reject"))["skipped"] == ["export"]


@pytest.mark.parametrize("policy", [{}, {"timeout": "retry"}], ids=["default", "retried"])
def test_no_answer_in_time_is_a_failure_of_its_own_kind(site: Site, policy: dict[str, str]) -> None:
    event = {"error": "the time has passed", "error_type": "timeout"}
    with pytest.raises(Exception, match="Nobody answered the review look within 4 days") as caught:
        site.complete(site.review(retries=1, failure_policy=policy), event)
    assert isinstance(caught.value, AirflowFailException) is (not policy)
    record = site.record()
    assert (record.status, record.stats["error_kind"]) == (TaskStatus.FAILED, "timeout")


def test_an_answer_that_is_none_fails(site: Site) -> None:
    with pytest.raises(AirflowFailException, match="neither Accept nor Reject"):
        site.complete(site.review(), {**answer("Accept"), "chosen_options": ["Accept", "Reject"]})


def test_an_answer_that_came_is_not_asked_for_again(site: Site) -> None:
    """The worker dies after the answer: the next try takes it from the store."""
    review = site.review(retries=2)
    site.complete(review, answer("Reject", reason="wrong anatomy"))
    again = site.review(retries=2)
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        again.execute(context_of(again, site.payload_id, try_number=2))
    assert skipped.value.tasks == [("ok", -1)]
    assert site.record().status is TaskStatus.PARTIAL_FAIL


def test_the_form_has_no_fields_of_the_workflows_own(site: Site) -> None:
    with DAG(DAG_ID, params={"threshold": 5}):
        review = site.review()
    assert set(review.serialized_params) == {"reason", "message"}
    assert "NAME NO PATIENT" in review.serialized_params["message"]["description"], "the UI shows this field only"
    assert review.serialized_params["reason"]["schema"]["enum"] == ["no reason given", "wrong anatomy"]


def test_it_is_one_of_airflows_own_human_in_the_loop_tasks(site: Site) -> None:
    review = site.review()
    assert isinstance(review, HITLOperator)
    assert review.template_fields == ("payload_id",), "a text for the reviewer is no template of Airflow's"


def asked(site: Site, review: ClinicalReviewOperator, monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    """Let it ask, as far as Airflow takes it over."""

    def waits(self: HITLOperator, context: Any) -> None:
        raise TaskDeferred(trigger=None, method_name="execute_complete")

    monkeypatch.setattr(HITLOperator, "execute", waits)
    with pytest.raises(TaskDeferred):
        review.execute(context_of(review, site.payload_id, **how))


def made(site: Site, execution_id: str) -> None:
    site.folder.write_record(TaskRecord("segment", "map", TaskStatus.SUCCEEDED, execution_id))


def test_while_it_waits_no_answer_of_before_counts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who marks the waiting task as success does not accept anything."""
    made(site, "first")
    asked(site, site.review(), monkeypatch)
    assert site.record().status is TaskStatus.DISPATCHED and site.record().end_time is None
    site.complete(site.review(), answer("Accept"))
    assert site.record().status is TaskStatus.SUCCEEDED
    asked(site, site.review(), monkeypatch, try_number=2, cleared=1)
    assert (site.record().status, site.record().generation) == (TaskStatus.DISPATCHED, 2)


def test_an_answer_is_of_what_was_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of what the application has made since."""
    made(site, "first")
    asked(site, site.review(), monkeypatch)
    made(site, "second")
    site.complete(site.review(), answer("Accept"))
    assert site.record().stats == {"reviewed": {"segment/-1": "first"}}
