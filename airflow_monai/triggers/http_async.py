"""Starts a job over HTTP once, and follows it until it has ended."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import InvalidArgument, JobFailed, MonaiError, ServiceRefused
from airflow_monai.tasks.run import Outcome
from airflow_monai.triggers.light import LightRun, LightTrigger
from airflow_monai.triggers.patience import patiently
from airflow_monai.types import FailureKind

if TYPE_CHECKING:
    from airflow_monai.hooks.http_client import HttpAnswer, HttpClient
    from airflow_monai.specs.http_job import JobSpec
    from airflow_monai.specs.http_request import RequestSpec

CALLBACK_INTERVAL = 2.0
_OVER = frozenset({FailureKind.EXIT_CODE.value, FailureKind.TIMEOUT.value})
"""Kinds of failure after which the job is over, so that a retry starts another one."""


class HttpJobTrigger(LightTrigger):
    """The whole of an ``http_async`` task.

    :param task: besides what all light tasks are told ``request``, the arguments of the task as the workflow has them,
        and ``outputs``, its output artifact.
    """

    _starting: asyncio.Future[dict[str, Any]] | None = None

    async def perform(self, run: LightRun) -> Outcome:
        from airflow_monai.triggers.http_answer import outcome_of

        spec, client = await self._opened()
        job, number = _job_to_follow(run)
        if job is None:
            # A killed task waits for the end of the start, so as to know what it has to cancel
            self._starting = asyncio.ensure_future(self._start(run, spec, client, number))
            job = await asyncio.shield(self._starting)
        self.log.info("Following the job that %s started", spec.start.shown)
        if spec.wait.value == "callback":
            answer = await self._called_back(run, spec, job)
        else:
            answer = await self._polled(run, spec, client, job)
        if spec.result_url:
            answer = await patiently(lambda: _asked(run, client, spec.result, job, "result"), spec.interval, self.log)
        return await asyncio.to_thread(outcome_of, run.run, spec.result, answer, self.light_task["outputs"])

    async def cancel(self, run: LightRun) -> None:
        spec, client = await self._opened()
        if self._starting is not None:
            with suppress(MonaiError):
                await self._starting
        job = (await asyncio.to_thread(run.refresh)).get("job")
        if not job:
            return
        if not spec.cancel_url:
            self.log.warning("The job goes on: the task says no cancel_url")
            return
        answer = await _asked(run, client, spec.question(spec.cancel_method, spec.cancel_url), job, "cancel")
        self.log.info("The job was cancelled (status %d)", answer.status)

    async def _opened(self) -> tuple[JobSpec, HttpClient]:
        from airflow_monai.specs.http_job import job_spec
        from airflow_monai.triggers.http_exchange import open_client

        spec = job_spec(self.light_task["request"])
        return spec, await open_client(spec.start.connection)

    async def _start(self, run: LightRun, spec: JobSpec, client: HttpClient, number: int) -> dict[str, Any]:
        """Start the job, or learn of it from another life that has started it."""
        from airflow_monai.hooks.http_request import filled_request
        from airflow_monai.triggers.http_exchange import AlreadySent, sent_once, waited

        token = await asyncio.to_thread(_token, run, number) if spec.wait.value == "callback" else ""
        resolve = _start_resolver(run, token)
        own_key = run.run.execution_id + (f"-{number}" if number > 1 else "")
        request = await asyncio.to_thread(filled_request, spec.start, client.endpoint, resolve, own_key)
        try:
            answer = await sent_once(run, client, spec.start, request, f"start{number}")
        except AlreadySent as sent:
            found = await waited(sent.seconds, lambda: _job_to_follow(run, refresh=True)[0])
            if found is None:
                raise
            return found
        job = {"number": number, "try_id": run.state["try_id"], **_described(spec, answer)}
        await asyncio.to_thread(lambda: run.keep(job=job))
        return job

    async def _polled(self, run: LightRun, spec: JobSpec, client: HttpClient, job: Mapping[str, Any]) -> HttpAnswer:
        from airflow_monai.triggers.http_answer import json_of

        question = spec.question("GET", spec.status_url or "{{ job.url }}")
        if not spec.status_url and not job.get("url"):
            raise ServiceRefused(f"{spec.start.shown}: the answer has no Location, and the task says no status_url.")
        while True:
            answer = await patiently(lambda: _asked(run, client, question, job, "status"), spec.interval, self.log)
            if _has_ended(spec, json_of(question, answer)):
                return answer
            await asyncio.sleep(spec.interval)

    async def _called_back(self, run: LightRun, spec: JobSpec, job: Mapping[str, Any]) -> HttpAnswer:
        """The answer that the service sends; the API that takes it writes it into the run's folder."""
        from airflow_monai.hooks.http_client import HttpAnswer
        from airflow_monai.specs.json_path import look_up

        name = _callback_note(job["number"])
        while (note := await asyncio.to_thread(run.noted, name)) is None:
            await asyncio.sleep(CALLBACK_INTERVAL)
        if not _has_ended(spec, note["body"]) and look_up(note["body"], spec.status_key) is not None:
            # of several answers only the first counts, so it must not be one on the way
            raise ServiceRefused(
                f"{spec.start.shown}: the service called back before the job had ended. Let it call once, with a "
                f"status at {spec.status_key!r} that succeeded or failed names."
            )
        return HttpAnswer(200, {"content-type": "application/json"}, json.dumps(note["body"]).encode(), "")


def _job_to_follow(run: LightRun, refresh: bool = False) -> tuple[dict[str, Any] | None, int]:
    """The job that goes on, if any, and the number of the one to follow or to start."""
    state = run.refresh() if refresh else run.state
    job = state.get("job")
    if job is None:
        return None, 1
    is_of_earlier_try = job["try_id"] != state["try_id"]
    if is_of_earlier_try and (state.get("failed") or {}).get("kind") in _OVER:
        return None, job["number"] + 1
    return job, job["number"]


def _token(run: LightRun, number: int) -> str:
    """The secret by which the service tells whose job has ended; one for a job."""
    from airflow_monai.store.answers import AnswerKind, Awaited, await_answer
    from airflow_monai.store.callbacks import await_callback
    from airflow_monai.store.giving import Waiting

    name = f"token{number}"
    if name not in run.state:
        run.keep(**{name: secrets.token_urlsafe(32)})
    folder, task = run.run.folder, run.run
    waiting = Waiting(
        folder.payload_id, folder.dag_id, folder.run_id, task.task_id, task.map_index, task.generation,
        _callback_note(number),
    )  # fmt: skip
    await_callback(task.store, run.state[name], waiting)
    # by a message broker the service may also tell the id of the execution, which is the job's idempotency key
    own_key = task.execution_id + (f"-{number}" if number > 1 else "")
    await_answer(task.store, AnswerKind.CALLBACK, (own_key,), Awaited(waiting))
    return str(run.state[name])


def _callback_note(number: int) -> str:
    return "callback" if number == 1 else f"callback{number}"


def _resolver(run: LightRun, own: Mapping[str, Any]) -> Callable[[str], Any]:
    return lambda path: own[path] if path in own else run.context(path)


def _start_resolver(run: LightRun, token: str) -> Callable[[str], Any]:
    """For the request that starts a job; the token is empty for one that is not to call back."""
    from airflow_monai.settings import load_callback_url
    from airflow_monai.specs.http_job import CALLBACK_TOKEN, CALLBACK_URL

    def resolve(path: str) -> Any:
        if path != CALLBACK_URL:
            return token if path == CALLBACK_TOKEN else run.context(path)
        base = load_callback_url()
        if not base:
            raise InvalidArgument(
                "{{ callback.url }} stands for nothing: say where services reach this site, in [monai] callback_url or "
                "[api] base_url."
            )
        return f"{base}/{token}"

    return resolve


def _described(spec: JobSpec, answer: HttpAnswer) -> dict[str, Any]:
    """What the first answer says of the job.

    :raises ServiceRefused: when it does not say what the task needs.
    """
    from airflow_monai.hooks.http_endpoint import origin
    from airflow_monai.hooks.http_request import joined
    from airflow_monai.specs.json_path import look_up
    from airflow_monai.triggers.http_answer import json_of

    found: dict[str, Any] = {}
    if spec.job_id:
        value = look_up(json_of(spec.start, answer), spec.job_id)
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            message = f"{spec.start.shown}: the answer has no job id at {spec.job_id!r}."
            raise ServiceRefused(message, status=answer.status)
        found["id"] = str(value)
    place = joined(answer.url, answer.headers.get("location", ""))
    if "location" in answer.headers and origin(place) == origin(answer.url):
        found["url"] = place
    return found


async def _asked(run: LightRun, client: HttpClient, spec: RequestSpec, job: Mapping[str, Any], note: str) -> HttpAnswer:
    """The answer to a question about the job."""
    from airflow_monai.hooks.http_request import filled_request
    from airflow_monai.triggers.http_exchange import sent_once

    resolve = _resolver(run, {"job.id": job.get("id"), "job.url": job.get("url")})
    request = await asyncio.to_thread(filled_request, spec, client.endpoint, resolve, "")
    return await sent_once(run, client, spec, request, note)


def _has_ended(spec: JobSpec, document: Any) -> bool:
    """Whether the job has ended well.

    :raises JobFailed: when it has ended badly.
    """
    from airflow_monai.specs.json_path import look_up

    status = str(look_up(document, spec.status_key)).strip().lower()
    if status in spec.failed:
        raise JobFailed(f"The job that {spec.start.shown} started has ended with status {status!r}.")
    return status in spec.succeeded
