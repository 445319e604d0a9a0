"""Which payloads a batch takes, and why not the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_monai.batches.claims import PayloadClaims
from airflow_monai.batches.selection import TAKEN, select, with_overrides
from airflow_monai.errors import InvalidArgument
from airflow_monai.specs.plan import LateImages, Selection, WorkflowPlan
from airflow_monai.store.local import LocalStore
from tests.batches.conftest import Put

NOW = datetime(2026, 3, 10, tzinfo=timezone.utc)
UID = "1.2.840.99.1"
IS_CT = "{{ context.dicom.series.any('0008','0060') }} == 'CT'"
Plan = Callable[..., WorkflowPlan]

TABLE: list[tuple[str, dict[str, Any], Selection, str]] = [
    ("nothing said", {}, Selection(), TAKEN),
    ("another AE title", {"aet": "OTHER"}, Selection(), "not sent to LUNGS"),
    ("another AE title, asked for", {"aet": "OTHER"}, Selection(ae_titles=("LUNGS", "OTHER")), TAKEN),
    ("another origin", {}, Selection(data_origins=("CT02",)), "not from CT02"),
    ("its origin", {}, Selection(data_origins=("CT02", "CT01")), TAKEN),
    ("too old", {}, Selection(received_within_seconds=3600), "not received within 1:00:00"),
    ("young enough", {}, Selection(received_within_seconds=10 * 86_400), TAKEN),
    ("before the window", {}, Selection(received_after="2026-03-02"), "received before 2026-03-02"),
    ("at its first second", {}, Selection(received_after="2026-03-01T10:00:00Z"), TAKEN),
    ("at its end", {}, Selection(received_before="2026-03-01T11:00:00+01:00"), "not received before 2026-03-01T11"),
    ("another study", {}, Selection(study_instance_uids=(UID,)), "not among the studies"),
    ("the study", {"uid": UID}, Selection(study_instance_uids=("1.2", UID)), TAKEN),
    ("a condition that holds", {}, Selection(conditions=(IS_CT,)), TAKEN),
    ("one that does not", {"modality": "MR"}, Selection(conditions=(IS_CT,)), f"the condition {IS_CT!r} is false"),
    ("this version has run", {"version": "1.0.0"}, Selection(), "already processed by version 1.0.0"),
    ("another version has run", {"version": "0.9.0"}, Selection(), TAKEN),
    ("an unknown version has run", {"version": ""}, Selection(), "already processed by a version that nobody"),
    ("this version, asked for", {"version": "1.0.0"}, Selection(include_processed=True), TAKEN),
    ("the gateway is about to", {"routing": [{"dag_id": "lungs", "wanted": True}]}, Selection(), "the gateway is"),
    ("the gateway did not want it", {"routing": [{"dag_id": "lungs", "wanted": False}]}, Selection(), TAKEN),
]


@pytest.mark.parametrize(("what", "payload", "wish", "reason"), TABLE, ids=[row[0] for row in TABLE])
def test_one_payload(
    store: LocalStore, put: Put, plan: Plan, what: str, payload: dict[str, Any], wish: Selection, reason: str
) -> None:
    put(**payload)
    (verdict,) = select(store, plan(), wish, NOW).verdicts
    assert verdict.reason.startswith(reason)
    assert verdict.is_taken == (reason == TAKEN)


def test_the_workflows_own_predicate_and_origins_hold_too(store: LocalStore, put: Put, plan: Plan) -> None:
    ours, _, _ = put(), put(modality="MR"), put(calling="CT09")
    strict = replace(plan(), predicate=(IS_CT,), data_origins=("CT01",))
    assert select(store, strict, Selection(), NOW).payloads == (ours,)


def test_the_oldest_first_and_the_limit_leaves_the_others(store: LocalStore, put: Put, plan: Plan) -> None:
    days = [put(f"2026-03-0{day}T00:00:00+00:00") for day in (3, 1, 2)]
    selected = select(store, plan(), Selection(), NOW, limit=2)
    assert selected.payloads == (days[1], days[2])
    assert selected.passed_over == {"left for a later batch by the limit": 1}


def test_open_and_damaged_payloads_stop_nothing(store: LocalStore, put: Put, plan: Plan) -> None:
    good, damaged, pending = put(), put(), put()
    store.write(f"payloads/{damaged}/payload.json", b"{")
    store.write(f"pending/{pending}", b"")
    store.write_json("payloads/6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21/open.json", {})
    selected = select(store, plan(), Selection(), NOW)
    assert selected.payloads == (good,)
    assert len(selected.verdicts) == 3 and "the store cannot read it" in selected.passed_over


def test_what_a_batch_has_started_counts_for_its_version_only(store: LocalStore, put: Put, plan: Plan) -> None:
    payload = put()
    claims = PayloadClaims(store, payload, "lungs")
    claim = claims.take("one", "1.0.0")
    assert select(store, plan(), Selection(), NOW).payloads == (payload,), "claimed, but the run was never made"
    claims.started(claim)
    assert select(store, plan(), Selection(), NOW).payloads == ()
    assert select(store, plan("1.1.0"), Selection(), NOW).payloads == (payload,)


def test_the_form_goes_before_the_file() -> None:
    wish = Selection(study_instance_uids=("1.2",), received_after="2026-01-01", include_processed=True)
    assert with_overrides(wish, {"study_instance_uids": None, "received_after": "", "limit": 3}) == wish
    form = {"study_instance_uids": ["1.3 ", ""], "received_before": "2026-02-01T00:00:00Z", "include_processed": False}
    changed = with_overrides(wish, form)
    assert changed == Selection(
        study_instance_uids=("1.3",), received_after="2026-01-01", received_before="2026-02-01T00:00:00Z"
    )


@pytest.mark.parametrize("form", [{"study_instance_uids": ["1.02"]}, {"received_after": "yesterday"}])
def test_a_form_that_means_nothing_is_refused_without_what_it_says(form: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        with_overrides(Selection(), form)
    assert "1.02" not in str(caught.value) and "yesterday" not in str(caught.value)


@pytest.mark.parametrize(
    ("late_images", "taken"),
    [(None, ("first", "late")), (LateImages.IGNORE, ("first",)), (LateImages.RERUN, ("first", "whole"))],
)
def test_late_images_are_taken_as_the_workflow_says(
    store: LocalStore, put: Put, plan: Plan, late_images: LateImages | None, taken: tuple[str, ...]
) -> None:
    ids = {"first": put(), "late": put(), "whole": put()}
    for name, more in (("late", {"sequence": 1}), ("whole", {"sequence": 1, "includes": [ids["first"], ids["late"]]})):
        key = f"payloads/{ids[name]}/payload.json"
        store.write_json(key, {**store.read_json(key), **more})
    selected = select(store, replace(plan(), late_images=late_images), Selection(), NOW)
    assert set(selected.payloads) == {ids[name] for name in taken}


def test_any_study_of_a_patients_payload_can_be_asked_for(store: LocalStore, put: Put, plan: Plan) -> None:
    payload_id = put()
    key = f"payloads/{payload_id}/payload.json"
    file = {"path": f"dcm/{UID}/1.2/1.3.dcm", "size": 1, "sop_instance_uid": "1.3", "sop_class_uid": "1"}
    manifest = store.read_json(key) | {"files": [{**file, "series_instance_uid": "1.2", "transfer_syntax_uid": "1"}]}
    store.write_json(key, manifest)
    assert select(store, plan(), Selection(study_instance_uids=(UID,)), NOW).payloads == (payload_id,)
