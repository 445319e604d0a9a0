"""Sends one HTTP request from the triggerer; the answer is the task's result."""

from __future__ import annotations

import asyncio
import time

from airflow_monai.tasks.run import Outcome
from airflow_monai.triggers.light import LightRun, LightTrigger


class HttpTrigger(LightTrigger):
    """The whole of an ``http`` task.

    :param task: besides what all light tasks are told ``request``, the arguments of the task as the workflow has them,
        and ``outputs``, its output artifact.
    """

    async def perform(self, run: LightRun) -> Outcome:
        from airflow_monai.hooks.http_request import filled_request
        from airflow_monai.specs.http_request import request_spec
        from airflow_monai.triggers.http_answer import outcome_of
        from airflow_monai.triggers.http_exchange import AlreadySent, open_client, sent_once, waited

        spec = request_spec(self.light_task["request"])
        client = await open_client(spec.connection)
        request = await asyncio.to_thread(filled_request, spec, client.endpoint, run.context, run.run.execution_id)
        started = time.monotonic()
        try:
            answer = await sent_once(run, client, spec, request, "request")
        except AlreadySent as sent:
            # By a triggerer that died, or by one that lost its heartbeat and is still at it
            told = await waited(sent.seconds, lambda: self._ended_meanwhile(run))
            if told is None:
                raise
            return told
        seconds = round(time.monotonic() - started, 3)
        self.log.info("%s: status %d, %d bytes, %.2f s", spec.shown, answer.status, len(answer.content), seconds)
        outputs = self.light_task["outputs"]
        return await asyncio.to_thread(outcome_of, run.run, spec, answer, outputs, seconds=seconds)

    def _ended_meanwhile(self, run: LightRun) -> Outcome | None:
        run.refresh()
        return self._already_ended(run)
