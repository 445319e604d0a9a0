"""Decides which workflows get a closed payload, and creates their runs: once, however often it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from airflow_monai.engine import Engine, Job
from airflow_monai.errors import StoreError
from airflow_monai.hooks.airflow_api import DagNotThere, RunNotCreated
from airflow_monai.intake.events import EventKind, EventLog
from airflow_monai.intake.noted import NotedReasons
from airflow_monai.intake.workflows import Known
from airflow_monai.specs.plan import LateImages
from airflow_monai.specs.routing import Decision, decide
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import load_series_tags, not_started_key, payload_key, routing_from, run_id_of
from airflow_monai.store.requests import request_of
from airflow_monai.store.space import DiskGuard
from airflow_monai.types import Payload

FIRST_RETRY, LAST_RETRY = 1.0, 30.0
DISK_RETRY = 5.0
"""How soon to ask again whether the disk has space: it costs one look for all payloads."""
LISTENER_GRACE = 600.0
"""How long a payload waits for a workflow that listens to its AE title; an image was taken only when there was one. As
long it waits for a workflow that was to get it and is gone: files are away for a moment while they are replaced."""


def _reruns(routing: Iterable[dict[str, Any]]) -> frozenset[str]:
    """DAG ids of the workflows that run again on all images."""
    return frozenset(item["dag_id"] for item in routing if item.get("late") == LateImages.RERUN.value)


def _asked_for(dag_ids: tuple[str, ...], known: Known) -> list[Decision]:
    """For the workflows that a request names and no others; one of them may be gone since it was taken."""
    plans = {plan.dag_id: plan.name for plan in known.workflows}
    named = [Decision(plans.get(dag_id, dag_id), dag_id, True, "the request names it") for dag_id in dag_ids]
    others = [dag_id for dag_id in plans if dag_id not in dag_ids]
    return named + [Decision(plans[dag_id], dag_id, False, "the request names other workflows") for dag_id in others]


def routing_key(payload_id: str) -> str:
    """Which workflows wanted the payload, and why the others did not."""
    return payload_key(payload_id, "routing.json")


def run_record_key(payload_id: str, dag_id: str) -> str:
    """Exists when the run of this workflow exists."""
    return payload_key(payload_id, "runs", f"{safe_name(dag_id)}.json")


class Announcer:
    """Routes payloads and creates runs.

    :param workflows: gives what is known of the workflows now.
    :param guard: says when no run may be started, since it would fill the disk.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        workflows: Callable[[], Known],
        events: EventLog,
        guard: DiskGuard | None = None,
    ):
        self._store = store
        self._guard = guard
        self._hold: str | None = None
        self._engine = engine
        self._workflows = workflows
        self._events = events
        self._attempts: dict[str, int] = {}
        self._unheard: dict[str, float] = {}
        self._gone: dict[tuple[str, str], float] = {}
        self._reasons = NotedReasons(events, store)

    def route(self, payload: Payload) -> float | None:
        """Decide once for all time which workflows get the payload.

        None when it is decided, else after how many seconds to try again: it is not decided that nobody wants the
        payload as long as the workflow that does may only be away for a moment.
        """
        key = routing_key(payload.payload_id)
        if self._store.exists(key):
            self._decided(payload)
            return None
        known = self._workflows()
        request = request_of(self._store, payload.payload_id)
        if request is not None and request.dag_ids:
            decisions = _asked_for(request.dag_ids, known)
        else:
            decisions = decide(payload, lambda: load_series_tags(self._store, payload.payload_id), known.workflows)
        if payload.includes:
            decisions = self._only_reruns(payload, decisions)
        taken = any(item.wanted or item.late is LateImages.RERUN for item in decisions)
        # nobody needs to listen where a message asks for a payload: unlike a scanner it is let in by no AE title
        doubt = "" if taken else known.doubt if request is not None else self._doubt(payload, known)
        if doubt:
            reason = f"no workflow wants it yet, and {doubt}"
            self._reasons.tell(EventKind.PAYLOAD_WAITING, reason, payload_id=payload.payload_id)
            return self._retry_delay(payload.payload_id)
        versions = {plan.dag_id: plan.version for plan in known.workflows}
        routing = [
            {
                "workflow": item.workflow_name,
                "dag_id": item.dag_id,
                "version": versions.get(item.dag_id, ""),
                "wanted": item.wanted,
                "reason": item.reason,
                **({"late": item.late.value} if item.late else {}),
            }
            for item in decisions
        ]
        if self._store.create_json(key, routing):
            self._tell_routed(payload, routing)
        self._decided(payload)
        return None

    def wants_whole(self, payload_id: str) -> bool:
        """Whether a workflow runs again on all images because those of this routed payload came late."""
        return bool(_reruns(self._routing(payload_id)))

    def _routing(self, payload_id: str) -> tuple[dict[str, Any], ...]:
        return self._store.read_as(routing_key(payload_id), routing_from)

    def _only_reruns(self, payload: Payload, decisions: list[Decision]) -> list[Decision]:
        """A payload of late and earlier images is for the workflows that did not take the late ones by themselves: so
        it was decided with those, whatever the workflows say now."""
        reruns = _reruns(self._routing(payload.includes[-1]))
        return [
            item
            if item.dag_id in reruns or not item.wanted
            else replace(item, wanted=False, reason=f"it is about payload {payload.includes[-1]} itself")
            for item in decisions
        ]

    def _decided(self, payload: Payload) -> None:
        """Forget that it waited."""
        self._attempts.pop(payload.payload_id, None)
        self._unheard.pop(payload.payload_id, None)
        self._reasons.over(EventKind.PAYLOAD_WAITING, payload_id=payload.payload_id)

    def _doubt(self, payload: Payload, known: Known) -> str:
        """Why a workflow that wants the payload may be there although none is seen; empty when there is none."""
        if known.doubt:
            self._unheard.pop(payload.payload_id, None)
            return known.doubt
        if any(plan.ae_title == payload.called_aet.strip(" ") for plan in known.workflows):
            return ""
        since = self._unheard.setdefault(payload.payload_id, time.monotonic())
        waited = time.monotonic() - since > LISTENER_GRACE
        return "" if waited else f"none listens to AE title {payload.called_aet!r} now"

    def _tell_routed(self, payload: Payload, routing: list[dict[str, Any]]) -> None:
        series = {file.series_instance_uid for file in payload.files}
        self._events.emit(
            EventKind.STUDY_COMPLETE,
            payload_id=payload.payload_id,
            called_aet=payload.called_aet,
            sequence=payload.sequence,
            images=len(payload.files),
            series=len(series),
            grouping=payload.grouping,
            **({"includes": list(payload.includes)} if payload.includes else {}),
        )
        if payload.is_late:
            self._tell_late(payload, routing)
        if not any(item["wanted"] or "late" in item for item in routing):
            reasons = {item["workflow"]: item["reason"] for item in routing}
            self._events.emit(
                EventKind.UNROUTED,
                payload_id=payload.payload_id,
                called_aet=payload.called_aet,
                reasons=reasons or "there is no workflow",
            )

    def _tell_late(self, payload: Payload, routing: list[dict[str, Any]]) -> None:
        names: dict[str, list[str]] = {choice.value: [] for choice in LateImages}
        for item in routing:
            if item["wanted"] or "late" in item:
                names[item.get("late", LateImages.NEW_PAYLOAD.value)].append(item["workflow"])
        self._events.emit(
            EventKind.LATE_IMAGES,
            payload_id=payload.payload_id,
            follows=payload.follows,
            images=len(payload.files),
            **names,
        )

    def announce(self, payload_id: str) -> float | None:
        """Create the runs that are missing: None when there is none left to create, else after how many seconds to try
        again."""
        routing = self._routing(payload_id)
        wanted = [(item["dag_id"], item.get("version", "")) for item in routing if item["wanted"]]
        if wanted and self._held(payload_id):
            return DISK_RETRY
        waiting = [dag_id for dag_id, version in wanted if not self._ensure(payload_id, dag_id, version)]
        if not waiting:
            self._attempts.pop(payload_id, None)
            return None
        return self._retry_delay(payload_id)

    def _held(self, payload_id: str) -> bool:
        """Whether the disk guard holds the payload's runs back for now."""
        refusal = self._guard.refusal() if self._guard else None
        self._hold = refusal and (self._hold or refusal)  # its figures change all the time: the first ones are told
        if self._hold:
            self._reasons.tell(EventKind.PAYLOAD_WAITING, f"no run is started: {self._hold}", payload_id=payload_id)
        else:
            self._reasons.over(EventKind.PAYLOAD_WAITING, payload_id=payload_id)
        return refusal is not None

    def _retry_delay(self, payload_id: str) -> float:
        attempt = self._attempts[payload_id] = self._attempts.get(payload_id, 0) + 1
        return min(FIRST_RETRY * 2 ** min(attempt - 1, 16), LAST_RETRY)

    def _ensure(self, payload_id: str, dag_id: str, version: str) -> bool:
        """Whether the run exists now, or never will. Its record says the version, so that batches know what has been
        processed."""
        record, run_id = run_record_key(payload_id, dag_id), run_id_of(payload_id)
        if self._store.exists(record) or self._store.exists(not_started_key(payload_id, dag_id)):
            return True
        try:
            created = self._engine.launch(Job(dag_id, run_id, payload_id))
            told_by_us = self._store.create_json(
                record, {"dag_id": dag_id, "run_id": run_id, "version": version, "time": time.time()}
            )
        except (RunNotCreated, StoreError) as error:
            if isinstance(error, DagNotThere) and self._is_gone(payload_id, dag_id):
                return self._not_started(payload_id, dag_id)
            self._reasons.tell(EventKind.RUN_WAITING, str(error), payload_id=payload_id, dag_id=dag_id)
            return False
        self._reasons.over(EventKind.RUN_WAITING, payload_id=payload_id, dag_id=dag_id)
        self._gone.pop((payload_id, dag_id), None)
        if told_by_us:
            self._events.emit(
                EventKind.RUN_CREATED, payload_id=payload_id, dag_id=dag_id, run_id=run_id, was_there=not created
            )
        return True

    def _is_gone(self, payload_id: str, dag_id: str) -> bool:
        """Whether the workflow of a DAG that Airflow does not have will make none: it has been neither in the folder
        nor registered for some minutes, in which the folder could be read and held no file that was never good."""
        known = self._workflows()
        if known.doubt or any(plan.dag_id == dag_id for plan in known.workflows):
            self._gone.pop((payload_id, dag_id), None)
            return False
        now = time.monotonic()
        return now - self._gone.setdefault((payload_id, dag_id), now) > LISTENER_GRACE

    def _not_started(self, payload_id: str, dag_id: str) -> bool:
        """Record that the run will never be, so that the payload and its other workflows are done with it."""
        reason = f"Airflow has no DAG {dag_id}, and its workflow is neither in the workflow folder nor registered now"
        record = {"dag_id": dag_id, "reason": reason, "time": time.time()}
        try:
            told_by_us = self._store.create_json(not_started_key(payload_id, dag_id), record)
        except StoreError as error:
            self._reasons.tell(EventKind.RUN_WAITING, str(error), payload_id=payload_id, dag_id=dag_id)
            return False
        self._reasons.over(EventKind.RUN_WAITING, payload_id=payload_id, dag_id=dag_id)
        self._gone.pop((payload_id, dag_id), None)
        if told_by_us:
            self._events.emit(EventKind.RUN_NOT_STARTED, payload_id=payload_id, dag_id=dag_id, reason=reason)
        return True
