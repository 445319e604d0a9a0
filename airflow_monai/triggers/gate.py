"""Judges a conditional edge in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from airflow_monai.errors import NoPayload
from airflow_monai.failures import is_retried, without_data
from airflow_monai.specs.edges import EdgeVerdict

_ARGUMENTS = (
    "payload_id", "dag_id", "run_id", "conditions", "behind", "workflow_name", "workflow_description",
    "workflow_params", "for_each", "map_index", "conf",
)  # fmt: skip


class GateTrigger(BaseTrigger):
    """Ends its task as success (edge taken), skipped (not taken), or failed (the store cannot say). What another try
    would only repeat, as a run without a payload, a worker ends for good.

    :param behind: tasks whose records no longer count when the edge is not taken.
    :param payload_id: (templated) and ``run_id``, ``map_index`` (templated): which workflow instance, and which part of
        a mapped one; all values are read from its folder in the store.
    :param for_each: ``series`` where the map index counts the series of the payload.
    :param workflow_params: defaults of ``context.params``; ``conf`` (templated): the run's, as JSON, which overrides.
    """

    def __init__(
        self,
        *,
        payload_id: str,
        dag_id: str,
        run_id: str,
        conditions: Sequence[str],
        behind: Sequence[str] = (),
        workflow_name: str = "",
        workflow_description: str = "",
        workflow_params: Mapping[str, Any] | None = None,
        for_each: str | None = None,
        map_index: str | int = -1,
        conf: str = "",
    ):
        super().__init__()
        self.payload_id = payload_id
        self.dag_id = dag_id
        self.run_id = run_id
        self.conditions = list(conditions)
        self.behind = list(behind)
        self.workflow_name = workflow_name
        self.workflow_description = workflow_description
        self.workflow_params = dict(workflow_params or {})
        self.for_each = for_each
        self.map_index = map_index
        self.conf = conf

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in _ARGUMENTS}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            # The store may be a slow disk or a bucket: never on the event loop that all triggers share
            verdict = await asyncio.to_thread(self.judge)
        except Exception as error:  # noqa: BLE001 - the trigger's edge: Airflow would log a message that may quote data
            told = without_data(error)
            self.log.error("The edge cannot be judged: %s", told)
            if is_retried(error):
                yield TaskFailedEvent(xcoms={"edge": f"cannot be judged: {told}"})
            else:  # Airflow retries every failure of a trigger; one that must be final has to end in a worker process
                yield TriggerEvent({"failed": str(told)})
            return
        self.log.info("%s", verdict.reason)
        if verdict.taken:
            yield TaskSuccessEvent()
        else:
            yield TaskSkippedEvent(xcoms={"edge": verdict.reason})

    def judge(self) -> EdgeVerdict:
        """Read the payload and the task records, and judge; retire the records behind an edge that is not taken.

        :raises MonaiError: when the run names no payload, or the store cannot be read.
        """
        from airflow_monai import settings
        from airflow_monai.specs.edges import judge_edge
        from airflow_monai.store import open_store
        from airflow_monai.store.payloads import load_payload
        from airflow_monai.store.runs import RunFolder
        from airflow_monai.tasks.run import TaskRun, condition_context
        from airflow_monai.triggers.light import given_params

        if not self.payload_id:
            raise NoPayload
        store = open_store(settings.load().store)
        payload = load_payload(store, self.payload_id)
        run = TaskRun(
            store=store,
            payload=payload,
            folder=RunFolder(store, payload.payload_id, self.dag_id, self.run_id),
            task_id="",
            map_index=int(self.map_index),
            generation=1,
            try_number=1,
            workflow_name=self.workflow_name,
            workflow_description=self.workflow_description,
            params=given_params(self.workflow_params, self.conf),
            for_each_series=bool(self.for_each),
        )
        verdict = judge_edge(self.conditions, condition_context(run))
        if not verdict.taken:
            run.folder.retire(self.behind, run.map_index)
        return verdict
