"""Keeps the runs of a batch going, in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from airflow_monai.errors import MonaiError, NoBatchPlan

if TYPE_CHECKING:
    from airflow_monai.batches.ledger import BatchRuns

POLL_SECONDS = 3.0
LONGEST_WAIT = 60.0
_NAMED = 20


class BatchTrigger(BaseTrigger):
    """Starts the runs of a batch's list and waits for them; its whole state is in the store.

    :param workflow_dag_id: the DAG whose runs are started.
    :param batch: (templated) id of the batch's own run, which names its list in the store.
    :param max_active: runs that may be queued or running at once.
    """

    def __init__(self, *, workflow_dag_id: str, batch: str, max_active: int):
        super().__init__()
        self.workflow_dag_id = workflow_dag_id
        self.batch = batch
        self.max_active = max_active
        self._runs: BatchRuns | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {"workflow_dag_id": self.workflow_dag_id, "batch": self.batch, "max_active": self.max_active}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            runs = self._runs = await asyncio.to_thread(self._open)
            await self._see_through(runs)
        except NoBatchPlan as error:
            self.log.error("%s", error)
            yield TaskFailedEvent()
            return
        finally:
            if self._runs is not None:
                self._runs.stop()  # a step may still be going on in its thread
        counts: dict[str, Any] = dict(runs.counts())
        event = TaskFailedEvent if counts["failed"] else TaskSuccessEvent
        if counts["failed"]:
            failed = await asyncio.to_thread(runs.failed_runs)
            more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
            self.log.error("Failed runs of %s: %s%s", self.workflow_dag_id, ", ".join(failed[:_NAMED]), more)
        yield event(xcoms={"return_value": counts})

    async def on_kill(self) -> None:
        """A person ended the task: start nothing more."""
        if self._runs is not None:
            self._runs.stop()
            self.log.info("Ended by a person: nothing more is started, %s", self._runs.told())

    async def _see_through(self, runs: BatchRuns) -> None:
        """Step until all runs have ended; what keeps a step from being done is told once, and it is tried again."""
        told, troubles, reason = "", 0, ""
        while not runs.is_done:
            try:
                await asyncio.to_thread(runs.step)
                troubles, reason = 0, ""
            except MonaiError as error:
                troubles += 1
                if str(error) != reason:
                    reason = str(error)
                    self.log.warning("The batch has to wait: %s", reason)
            if runs.told() != told:
                told = runs.told()
                self.log.info("%s", told)
            if not runs.is_done:
                await asyncio.sleep(min(POLL_SECONDS * 2 ** min(troubles, 10), LONGEST_WAIT))

    def _open(self) -> BatchRuns:
        from airflow_monai import settings
        from airflow_monai.batches.ledger import BatchRuns, load_plan
        from airflow_monai.hooks.airflow_api import AirflowApi
        from airflow_monai.hooks.airflow_engine import AirflowEngine
        from airflow_monai.store import open_store

        site = settings.load()
        store = open_store(site.store)
        plan = load_plan(store, self.workflow_dag_id, self.batch)
        if plan is None:
            raise NoBatchPlan(self.batch)
        engine = AirflowEngine(AirflowApi(site.api_conn_id))
        return BatchRuns(store, plan, engine, self.max_active).resume()
