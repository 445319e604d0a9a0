"""Base of the triggers that are a whole task: from the first look at its arguments to its record in the store.

A triggerer that dies leaves the task to another one, which begins the same trigger again. So whatever must not happen
twice is noted in the store first (:meth:`LightRun.note_once`), and what was reached is kept (:meth:`LightRun.keep`).
"""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from airflow_monai.errors import Fenced, JobTimedOut, MonaiError, NoPayload
from airflow_monai.failures import is_retried
from airflow_monai.operators.base import Outcome, TaskRun, return_value, task_record
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.types import TaskStatus

STATE = "state"


@dataclass(slots=True)
class LightRun:
    """One try of a light task.

    :param run: the task in terms of the store.
    :param context: resolver of ``{{ context... }}``.
    :param state: what earlier lives of this generation kept; plain data, changed by :meth:`keep` only.
    """

    run: TaskRun
    context: ExecutionContext
    state: dict[str, Any]

    def resolve(self, value: Any) -> Any:
        """An argument with its templates replaced by values. Reads the store: not for the event loop."""
        from airflow_monai.specs.arguments import resolved

        return resolved(value, self.context)

    def keep(self, **facts: Any) -> None:
        """Remember across a triggerer's death. Writes to the store: not for the event loop."""
        self.state.update(facts)
        self.run.store.write_json(self._note_key(STATE), self.state)

    def note_once(self, name: str, facts: Mapping[str, Any]) -> bool:
        """Note that something is about to happen that must happen once in this generation; False when it was noted
        before. Writes to the store: not for the event loop."""
        return self.run.store.create_json(self._note_key(name), dict(facts))

    def noted(self, name: str) -> dict[str, Any] | None:
        """What was noted, None when nothing was."""
        key = self._note_key(name)
        return self.run.store.read_json(key) if self.run.store.exists(key) else None

    def _note_key(self, name: str) -> str:
        return note_key(self.run, self.run.generation, name)


def note_key(run: TaskRun, generation: int, name: str) -> str:
    return run.folder.note_key(run.task_id, run.map_index, generation, name)


class LightTrigger(BaseTrigger):
    """Base: a subclass implements :meth:`perform`, and :meth:`cancel` when it starts something elsewhere.

    :param where: (templated) which try of which task instance, see :data:`airflow_monai.operators.light.WHERE`.
    :param task: what the task is told: the spec's texts.
    """

    def __init__(self, *, where: Mapping[str, Any], task: Mapping[str, Any]):
        super().__init__()
        self.where = dict(where)
        self.light_task = dict(task)
        self._run: LightRun | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return name, {"where": self.where, "task": self.light_task}

    @abstractmethod
    async def perform(self, run: LightRun) -> Outcome:
        """Do the task's work.

        :raises MonaiError: its kind (``failure``) decides whether the task is tried again.
        """

    async def cancel(self, run: LightRun) -> None:
        """End what the task has started elsewhere; called when a person ends the task, and at its time limit."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            run = self._run = await asyncio.to_thread(self._begin)
        except MonaiError as error:
            self.log.error("%s", error)
            yield self._failure(error)
            return
        done = await asyncio.to_thread(self._already_done, run)
        try:
            outcome = done or await self._within_time(run)
            if done is None:
                await asyncio.to_thread(self._write_record, run, TaskStatus.SUCCEEDED, outcome, None)
        except MonaiError as error:
            self.log.error("%s", error)
            await asyncio.to_thread(self._failed, run, error)
            yield self._failure(error)
            return
        except Exception as error:
            # Its message may quote data; Airflow logs the rest, and takes a trigger that raises as failed
            await asyncio.to_thread(self._failed, run, error)
            raise
        yield TaskSuccessEvent(xcoms={"return_value": return_value(outcome, self.light_task["result_keys"])})

    async def on_kill(self) -> None:
        """A person ended or cleared the task."""
        if self._run is None:
            return
        await self.cancel(self._run)
        await asyncio.to_thread(self._write_record, self._run, TaskStatus.CANCELED, Outcome(), "ended by a person")

    async def _within_time(self, run: LightRun) -> Outcome:
        limit = float(self.light_task["timeout_seconds"] or 0)
        if not limit:
            return await self.perform(run)
        began = datetime.fromisoformat(run.state["began"])
        left = limit - (datetime.now(timezone.utc) - began).total_seconds()
        try:
            return await asyncio.wait_for(self.perform(run), max(left, 0.0))
        except asyncio.TimeoutError:  # noqa: UP041 - another class in Python 3.10
            await self.cancel(run)
            raise JobTimedOut(
                f"Task {run.run.task_id} took longer than its time limit of {limit / 60:g} minutes and was ended. "
                "Raise its timeout_minutes if it needs more."
            ) from None

    def _begin(self) -> LightRun:
        """Find the payload, and take the task over from earlier tries."""
        from airflow_monai import settings
        from airflow_monai.operators.base import condition_context, sortable_time
        from airflow_monai.store import open_store
        from airflow_monai.store.payloads import load_payload
        from airflow_monai.store.runs import RunFolder

        where, task = self.where, self.light_task
        if not where["payload_id"]:
            raise NoPayload
        store = open_store(settings.load().store)
        payload = load_payload(store, where["payload_id"])
        run = TaskRun(
            store=store,
            payload=payload,
            folder=RunFolder(store, payload.payload_id, task["dag_id"], where["run_id"]),
            task_id=task["task_id"],
            map_index=int(where["map_index"]),
            generation=1,
            try_number=int(where["try_number"]),
            workflow_name=task["workflow_name"],
            workflow_description=task["workflow_description"],
            run_started=sortable_time(where["run_started"]),
            params=given_params(task["workflow_params"], where["conf"]),
        )
        run = run.with_generation(run.fence.claim_after(lambda generation: self._goes_on(run, generation)))
        begun = LightRun(run, condition_context(run), _state(run, run.generation))
        if not begun.state:
            begun.keep(first_try=run.try_number, began=datetime.now(timezone.utc).isoformat())
        return begun

    def _goes_on(self, run: TaskRun, generation: int) -> bool:
        """Whether this try is a retry within a generation; else somebody has cleared the task."""
        state = _state(run, generation)
        if not state.get("retried"):
            return False
        return run.try_number - int(state["first_try"]) <= int(self.light_task["retries"])

    def _already_done(self, run: LightRun) -> Outcome | None:
        """What this generation made before its triggerer died, when Airflow did not hear of it."""
        record = run.run.folder.record(run.run.task_id, run.run.map_index)
        is_ours = record is not None and record.generation == run.run.generation
        if record is None or not is_ours or record.status is not TaskStatus.SUCCEEDED:
            return None
        return Outcome(record.result, record.artifacts, record.stats, record.output_dir)

    def _write_record(self, run: LightRun, status: TaskStatus, outcome: Outcome, error: str | None) -> None:
        try:
            run.run.fence.check()
        except Fenced:
            return  # a newer try owns the record now
        task = self.light_task
        run.run.folder.write_record(
            task_record(
                run.run,
                task["task_type"],
                status,
                outcome,
                error=error,
                started=str(run.state.get("began")),
                previous_task_id=task["previous_task_id"],
            )
        )

    def _failed(self, run: LightRun, error: BaseException) -> None:
        from airflow_monai.operators.base import one_line

        run.keep(retried=is_retried(error, self.light_task["failure_policy"]))
        self._write_record(run, TaskStatus.FAILED, Outcome(), one_line(error))

    def _failure(self, error: MonaiError) -> TriggerEvent:
        """Airflow retries every failure of a trigger; one that must be final has to end in a worker process."""
        if is_retried(error, self.light_task["failure_policy"]) or not self.light_task["retries"]:
            return TaskFailedEvent()
        return TriggerEvent({"failed": str(error)})


def given_params(defaults: Mapping[str, Any], conf: str) -> dict[str, Any]:
    """A workflow's parameters: those that the run's conf (JSON) gives, else their defaults."""
    try:
        given = json.loads(conf or "{}")
    except ValueError:
        given = {}
    given = given if isinstance(given, dict) else {}
    return {name: given.get(name, default) for name, default in defaults.items()}


def _state(run: TaskRun, generation: int) -> dict[str, Any]:
    key = note_key(run, generation, STATE)
    return run.store.read_json(key) if run.store.exists(key) else {}
