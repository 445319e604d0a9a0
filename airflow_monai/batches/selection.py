"""Which payloads of the store a batch takes, and why it does not take the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from airflow_monai.batches.claims import is_being_handled, versions_run
from airflow_monai.errors import ConditionError, InvalidArgument, StoreError
from airflow_monai.specs.checks.schedule import UID, moment_of
from airflow_monai.specs.conditions.parser import evaluate
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.specs.plan import LateImages, Selection, WorkflowPlan
from airflow_monai.store.base import Store
from airflow_monai.store.deletion import doomed
from airflow_monai.store.payloads import load_payload, load_series_tags, manifest_key, payload_ids
from airflow_monai.types import Payload

TAKEN = "taken"
BEYOND_LIMIT = "left for a later batch by the limit"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the selection says of one payload.

    :param reason: :data:`TAKEN`, or why it is not; names AE titles and conditions, never a value of the study.
    :param closed: when the payload was complete; empty where it cannot be read.
    """

    payload_id: str
    reason: str
    closed: str = ""

    @property
    def is_taken(self) -> bool:
        return self.reason == TAKEN


@dataclass(frozen=True, slots=True)
class Selected:
    """The verdicts on all closed payloads of the store, the payloads that came first in front."""

    verdicts: tuple[Verdict, ...]

    @property
    def payloads(self) -> tuple[str, ...]:
        return tuple(verdict.payload_id for verdict in self.verdicts if verdict.is_taken)

    @property
    def passed_over(self) -> dict[str, int]:
        """Reason -> number of payloads, the most frequent first."""
        return dict(Counter(item.reason for item in self.verdicts if not item.is_taken).most_common())


def select(store: Store, plan: WorkflowPlan, wish: Selection, now: datetime, limit: int | None = None) -> Selected:
    """Judge every closed payload of the store; of those that fit the oldest ``limit`` are taken."""
    verdicts = sorted(_verdicts(store, plan, wish, now), key=lambda item: (item.closed, item.payload_id))
    left = len(verdicts) if limit is None else limit
    found = []
    for verdict in verdicts:
        if verdict.is_taken:
            verdict = verdict if left else replace(verdict, reason=BEYOND_LIMIT)
            left = max(0, left - 1)
        found.append(verdict)
    return Selected(tuple(found))


def _verdicts(store: Store, plan: WorkflowPlan, wish: Selection, now: datetime) -> Iterator[Verdict]:
    judge = _Judge(store, plan, wish, now)
    gone = doomed(store)
    for payload_id in payload_ids(store):
        try:
            if payload_id in gone or not store.exists(manifest_key(payload_id)):
                continue  # it is being deleted, or images of it are still coming
            payload = load_payload(store, payload_id)
            yield Verdict(payload_id, judge(payload), payload.closed)
        except StoreError:
            yield Verdict(payload_id, "the store cannot read it")


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges payloads one after the other; what is cheap to know is asked first."""

    store: Store
    plan: WorkflowPlan
    wish: Selection
    now: datetime

    def __call__(self, payload: Payload) -> str:
        for question in (self._titles, self._images, self._window, self._studies, self._records, self._conditions):
            reason = question(payload)
            if reason:
                return reason
        return TAKEN

    def _titles(self, payload: Payload) -> str:
        titles = self.wish.ae_titles or (self.plan.ae_title,)
        origins = self.wish.data_origins or self.plan.data_origins
        if payload.called_aet.strip(" ") not in titles:
            return f"not sent to {' or '.join(titles)}"
        if origins and not {caller.strip(" ") for caller in payload.calling_aets}.intersection(origins):
            return f"not from {' or '.join(origins)}"
        return ""

    def _images(self, payload: Payload) -> str:
        """Late images are worked on as the workflow says: by themselves, not at all, or together with those before."""
        late = self.plan.late_images or LateImages.NEW_PAYLOAD
        if payload.is_late and late is not LateImages.NEW_PAYLOAD:
            return f"its images came late, and the workflow says late_images: {late.value}"
        if payload.includes and late is not LateImages.RERUN:
            return "its images are in other payloads"
        return ""

    def _window(self, payload: Payload) -> str:
        closed, wish = datetime.fromisoformat(payload.closed), self.wish
        within = wish.received_within_seconds
        after = moment_of(wish.received_after) if wish.received_after else None
        before = moment_of(wish.received_before) if wish.received_before else None
        if within is not None and closed < self.now - timedelta(seconds=within):
            return f"not received within {timedelta(seconds=within)}"
        if after and closed < after:
            return f"received before {wish.received_after}"
        return f"not received before {wish.received_before}" if before and closed >= before else ""

    def _studies(self, payload: Payload) -> str:
        uids = self.wish.study_instance_uids
        return "not among the studies that are asked for" if uids and payload.studies.isdisjoint(uids) else ""

    def _records(self, payload: Payload) -> str:
        if is_being_handled(self.store, payload.payload_id, self.plan.dag_id):
            return "the gateway is about to start it, or has still to decide about it"
        if self.wish.include_processed:
            return ""
        versions = versions_run(self.store, payload.payload_id, self.plan.dag_id)
        if self.plan.version in versions:
            return f"already processed by version {self.plan.version}"
        return "already processed by a version that nobody recorded" if versions == {""} else ""

    def _conditions(self, payload: Payload) -> str:
        context = ExecutionContext(
            payload=payload,
            series_tags=cache(lambda: load_series_tags(self.store, payload.payload_id)),
            workflow_name=self.plan.name,
            workflow_description=self.plan.description,
            params={param.name: param.default for param in self.plan.params},
        )
        for condition in (*self.plan.predicate, *self.wish.conditions):
            try:
                if not evaluate(condition, context):
                    return f"the condition {condition!r} is false"
            except ConditionError as error:
                return f"the condition {condition!r} cannot be evaluated: {error}"
        return ""


def with_overrides(wish: Selection, given: Mapping[str, Any]) -> Selection:
    """The selection with what a person entered into the form; fields that were left empty change nothing.

    :raises InvalidArgument: when a time or UID is none.
    """
    changes: dict[str, Any] = {}
    uids = tuple(str(uid).strip() for uid in given.get("study_instance_uids") or () if str(uid).strip())
    if uids:
        bad = sum(1 for uid in uids if not UID.fullmatch(uid))
        if bad:
            raise InvalidArgument(
                f"{bad} of the {len(uids)} study_instance_uids are no UIDs (DICOM PS3.5 section 9.1)."
            )
        changes["study_instance_uids"] = uids
    for name in ("received_after", "received_before"):
        if given.get(name):
            if moment_of(str(given[name])) is None:
                raise InvalidArgument(f"{name} is no time of ISO 8601, such as 2026-03-01T06:00:00Z.")
            changes[name] = str(given[name])
    if given.get("include_processed") is not None:
        changes["include_processed"] = bool(given["include_processed"])
    return replace(wish, **changes)
