"""Base of the triggers that are a whole task: from the first look at its arguments to its record in the store.

A triggerer that dies leaves the task to another one, which begins the same trigger again. So whatever must not happen
twice is noted in the store first (:meth:`LightRun.note_once`), and what was reached is kept (:meth:`LightRun.keep`).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from airflow_monai.errors import Fenced, JobTimedOut, MonaiError
from airflow_monai.failures import is_retried, kind_of, without_data
from airflow_monai.tasks.run import Outcome, one_line, return_value, task_record
from airflow_monai.triggers.light_run import TOLD, LightRun, begin, given_params, note_key
from airflow_monai.types import FailureKind, TaskStatus

__all__ = ["LightRun", "LightTrigger", "given_params", "note_key"]

CANCEL_SECONDS = 15.0
"""How long the end of what runs elsewhere may take; Airflow gives a killed trigger 30 s for all."""
OTHER_TRIGGERER_SECONDS = 5.0
"""How long a triggerer may take to begin what it has taken over from another one."""


_ENDING: set[asyncio.Future[None]] = set()
"""Ends of killed tasks that are under way; asyncio itself does not keep them."""


class LightTrigger(BaseTrigger):
    """Base: a subclass implements :meth:`perform`, and :meth:`cancel` when it starts something elsewhere.

    :param where: (templated) which try of which task instance, see :data:`airflow_monai.operators.light.WHERE`.
    :param task: what the task is told: the spec's texts.
    :cvar links: XCom key of an extra link -> key of its address in the outcome's ``xcom``.
    """

    links: ClassVar[Mapping[str, str]] = {}

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
            outcome = await self._outcome()
        except Exception as error:  # noqa: BLE001 - the trigger's edge: Airflow would log a message that may quote data
            yield await self._failed(error)
            return
        links = {name: outcome.xcom[key] for name, key in self.links.items() if key in outcome.xcom}
        yield TaskSuccessEvent(xcoms={"return_value": return_value(outcome, self.light_task["result_keys"]), **links})

    async def on_kill(self) -> None:
        """A person ended or cleared the task.

        Airflow cancels a killed trigger once a second until it is gone, and this method with it; its work goes on.
        """
        ending = asyncio.ensure_future(self._end())
        _ENDING.add(ending)
        ending.add_done_callback(_ENDING.discard)
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(ending)

    async def _end(self) -> None:
        run = self._run
        if run is None or not await self._is_ended_by_person(run):
            return
        await self._end_elsewhere(run)
        await asyncio.to_thread(self._write_record, run, TaskStatus.CANCELED, Outcome(), "ended by a person")

    async def _outcome(self) -> Outcome:
        run = self._run = await asyncio.to_thread(begin, self.where, self.light_task)
        done = await asyncio.to_thread(self._already_ended, run)
        if done is not None:
            return done
        outcome = await self._within_time(run)
        await asyncio.to_thread(self._write_record, run, outcome.status, outcome, None)
        return outcome

    def _already_ended(self, run: LightRun) -> Outcome | None:
        """What this try came to before its triggerer died, when Airflow did not hear of it."""
        failed = run.state.get("failed") or {}
        if failed.get("try_id") == run.state["try_id"]:
            raise _FailedBefore(failed)
        record = run.run.folder.record(run.run.task_id, run.run.map_index)
        is_ours = record is not None and record.generation == run.run.generation
        if record is None or not is_ours or record.status not in (TaskStatus.SUCCEEDED, TaskStatus.PARTIAL_FAIL):
            return None
        return Outcome(record.result, record.artifacts, record.stats, record.output_dir, status=record.status)

    async def _within_time(self, run: LightRun) -> Outcome:
        limit = float(self.light_task["timeout_seconds"] or 0)
        if not limit:
            return await self.perform(run)
        began = datetime.fromisoformat(run.state["began"])

        def left() -> float:
            return limit - (datetime.now(timezone.utc) - began).total_seconds()

        try:
            return await asyncio.wait_for(self.perform(run), max(left(), 0.0))
        except asyncio.TimeoutError:  # noqa: UP041 - another class in Python 3.10
            if left() > 1.0:
                raise  # something else timed out, a disk say
            await self._end_elsewhere(run)
            raise JobTimedOut(
                f"Task {run.run.task_id} took longer than its time limit of {limit / 60:g} minutes and was ended. "
                "Raise its timeout_minutes if it needs more."
            ) from None

    async def _end_elsewhere(self, run: LightRun) -> None:
        """:meth:`cancel`; that it does not succeed is only told."""
        try:
            await asyncio.wait_for(self.cancel(run), CANCEL_SECONDS)
        except Exception as error:  # noqa: BLE001 - the task ends in any case
            self.log.warning("What the task had started elsewhere may go on: %s", one_line(error))

    async def _is_ended_by_person(self, run: LightRun) -> bool:
        """Airflow calls ``on_kill`` also when it has given the task to another triggerer, which goes on with it.

        That one tells so in the store, soon. (Airflow itself could be asked, but a triggerer's first question costs it
        half a minute, in which none of its tasks begins or ends.)
        """
        deadline = asyncio.get_running_loop().time() + OTHER_TRIGGERER_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if await asyncio.to_thread(run.run.fence.is_taken_over):
                return True  # cleared: its new try has begun
            if (await asyncio.to_thread(run.refresh)).get("life") != run.life:
                self.log.info("Another triggerer goes on with this task.")
                return False
            await asyncio.sleep(0.5)
        return True

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

    async def _failed(self, error: Exception) -> TriggerEvent:
        """Tell the log and the store; the event for Airflow."""
        message, may_retry = str(without_data(error)), is_retried(error, self.light_task["failure_policy"])
        self.log.error("%s", message)
        if self._run is not None and not isinstance(error, Fenced):
            try:
                await asyncio.to_thread(self._keep_failure, self._run, error)
            except Fenced as second:
                self.log.error("The failure is not kept: %s", second)
            except Exception as second:  # noqa: BLE001 - as above
                self.log.error("The failure could not be kept: %s", without_data(second))
                # the next try would know nothing of this one, and do again what may have been done
                may_retry = False
                message += " The store could not keep that, so it is not tried again by itself. Clear the task."
        # Airflow retries every failure of a trigger; one that must be final has to end in a worker process
        if may_retry or not self.light_task["retries"]:
            return TaskFailedEvent()
        told = note_key(self._run.run, self._run.run.generation, TOLD) if self._run is not None else ""
        return TriggerEvent({"failed": message, "told": told})

    def _keep_failure(self, run: LightRun, error: Exception) -> None:
        retried = is_retried(error, self.light_task["failure_policy"])
        kind, text = kind_of(error).value, one_line(error)
        outcome = Outcome(stats={"error_kind": kind})
        self._write_record(run, TaskStatus.FAILED, outcome, text)
        run.keep(failed={"try_id": run.state["try_id"], "kind": kind, "retried": retried, "error": text})


class _FailedBefore(MonaiError):
    """The failure of a try whose triggerer died before Airflow heard of it."""

    def __init__(self, failed: Mapping[str, Any]):
        super().__init__(failed["error"])
        self.failure = FailureKind(failed["kind"])
