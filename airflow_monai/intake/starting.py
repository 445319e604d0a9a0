"""Starts workflows on a payload because a person wants it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_monai.engine import Engine, Job
from airflow_monai.errors import InvalidArgument, MonaiError
from airflow_monai.intake.announcer import Announcer, routing_key, run_record_key
from airflow_monai.intake.workflows import Known
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.specs.routing import decide
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.deletion import is_doomed
from airflow_monai.store.payloads import (
    load_payload,
    load_series_tags,
    manifest_key,
    not_started_key,
    payload_key,
    rerun_id_of,
    routing_from,
    run_id_of,
)
from airflow_monai.store.space import DiskGuard
from airflow_monai.types import Payload


class NotStarted(MonaiError):
    """Nothing was started, and why."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run that exists now.

    :param created: False where it was there before.
    """

    workflow: str
    dag_id: str
    run_id: str
    created: bool


class Starter:
    """
    :param workflows: gives what is known of the workflows now.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        workflows: Callable[[], Known],
        announcer: Announcer,
        guard: DiskGuard | None,
    ):
        self._store = store
        self._engine = engine
        self._workflows = workflows
        self._announcer = announcer
        self._guard = guard

    def start(self, payload_id: str, workflow: str = "", again: bool = False) -> list[Started]:
        """Start what the payload should have, or this workflow whether it wants the payload or not.

        :param again: another run where there is one.
        :raises MonaiError: when it cannot be done, with the reason; what has been started until then is started.
        """
        if is_doomed(self._store, payload_id):
            raise NotStarted(f"Payload {payload_id} was deleted, or is being deleted.")
        if not self._store.exists(manifest_key(payload_id)):
            if self._store.exists(payload_key(payload_id, "open.json")):
                raise NotStarted(
                    f"Payload {payload_id} is still open: images may join it. It is closed when they have come, or at "
                    "once with `airflow monai import ... --announce`."
                )
            load_payload(self._store, payload_id)  # says that there is none
        if self._guard and (refusal := self._guard.refusal()):
            raise NotStarted(f"No run is started: {refusal}.")
        payload = load_payload(self._store, payload_id)
        plans = [self._named(workflow)] if workflow else self._wanted(payload)
        return [self._again(payload, plan) if again else self._first(payload, plan) for plan in plans]

    def _named(self, workflow: str) -> WorkflowPlan:
        known = self._workflows().workflows
        for plan in known:
            if workflow in (plan.name, plan.dag_id):
                return plan
        names = ", ".join(sorted(plan.name for plan in known)) or "none"
        raise InvalidArgument(f"There is no workflow {workflow!r}. There are: {names}.")

    def _wanted(self, payload: Payload) -> list[WorkflowPlan]:
        """The workflows that were to get it, else those that want it now."""
        self._announcer.route(payload)
        known = {plan.dag_id: plan for plan in self._workflows().workflows}
        key = routing_key(payload.payload_id)
        routing = self._store.read_as(key, routing_from) if self._store.exists(key) else ()
        routed = [item["dag_id"] for item in routing if item["wanted"]]
        found = [known[dag_id] for dag_id in routed if dag_id in known]
        if found:
            return found
        decisions = decide(payload, lambda: load_series_tags(self._store, payload.payload_id), known.values())
        found = [known[item.dag_id] for item in decisions if item.wanted]
        if found:
            return found
        reasons = "".join(f"\n  {item.workflow_name}: {item.reason}" for item in decisions)
        raise NotStarted(
            f"No workflow wants payload {payload.payload_id}; --workflow starts one nevertheless.{reasons}"
        )

    def _first(self, payload: Payload, plan: WorkflowPlan) -> Started:
        payload_id, run_id = payload.payload_id, run_id_of(payload.payload_id)
        created = self._engine.launch(Job(plan.dag_id, run_id, payload_id))
        self._store.create_json(run_record_key(payload_id, plan.dag_id), _record(plan, run_id))
        self._store.delete(not_started_key(payload_id, plan.dag_id))
        return Started(plan.name, plan.dag_id, run_id, created)

    def _again(self, payload: Payload, plan: WorkflowPlan) -> Started:
        """One more; where the first is missing, that one."""
        if not self._store.exists(run_record_key(payload.payload_id, plan.dag_id)):
            first = self._first(payload, plan)
            if first.created:
                return first
        number = 2
        while True:
            run_id = rerun_id_of(payload.payload_id, number)
            key = payload_key(payload.payload_id, "reruns", safe_name(plan.dag_id), f"{number}.json")
            if not self._store.exists(key):
                created = self._engine.launch(Job(plan.dag_id, run_id, payload.payload_id))
                self._store.create_json(key, _record(plan, run_id))
                if created:
                    return Started(plan.name, plan.dag_id, run_id, True)
            number += 1


def _record(plan: WorkflowPlan, run_id: str) -> dict[str, object]:
    return {
        "dag_id": plan.dag_id,
        "run_id": run_id,
        "version": plan.version,
        "time": time.time(),
        "by_hand": True,
    }
