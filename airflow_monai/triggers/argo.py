"""Starts a workflow of an Argo cluster once, follows it until it has ended, and publishes what it made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_monai.errors import Fenced, JobInterrupted, MonaiError
from airflow_monai.tasks.run import Outcome
from airflow_monai.triggers.light import LightRun, LightTrigger
from airflow_monai.triggers.patience import T, patiently

if TYPE_CHECKING:
    from airflow_monai.argo.status import WorkflowStatus
    from airflow_monai.argo.submission import Submission
    from airflow_monai.hooks.argo import ArgoSite
    from airflow_monai.hooks.argo_server import ArgoServer

FIRST_WAIT, LONGEST_WAIT, GROWTH = 1.0, 15.0, 1.5
"""Seconds between two looks at a workflow."""
ENDED_BADLY = "ended_badly"


@dataclass(frozen=True, slots=True)
class _Followed:
    """A workflow and the server that has it."""

    server: ArgoServer
    name: str

    @property
    def told(self) -> str:
        return f"Argo workflow {self.name} in namespace {self.server.namespace}"


class ArgoTrigger(LightTrigger):
    """The whole of an ``argo`` task.

    :param task: besides what all light tasks are told what :class:`airflow_monai.operators.argo.ArgoOperator` puts in.
    """

    links: ClassVar[Mapping[str, str]] = {"_link_ArgoWorkflowLink": "argo_url"}
    _starting: asyncio.Future[None] | None = None

    async def perform(self, run: LightRun) -> Outcome:
        site, followed = await self._opened(run)
        if run.state.get("submitted") != followed.name:
            # A killed task waits for the end of the start, so as to know what it has to terminate
            self._starting = asyncio.ensure_future(self._start(run, site, followed))
            await asyncio.shield(self._starting)
        self.log.info("Following %s: %s", followed.told, followed.server.page(followed.name))
        status = await self._ended(run, followed)
        if status.phase != "Succeeded":
            await self._ended_badly(run)
            raise status.failure(f"{followed.told} of task {run.run.task_id}", followed.server.cleaned)
        return await asyncio.to_thread(self._published, run, followed, status)

    async def cancel(self, run: LightRun) -> None:
        if self._starting is not None:
            with suppress(MonaiError):
                await self._starting
        _, followed = await self._opened(run)
        if await followed.server.terminate(followed.name):
            self.log.info("%s was terminated", followed.told)
        with suppress(Fenced):
            await self._ended_badly(run)

    async def _opened(self, run: LightRun) -> tuple[ArgoSite, _Followed]:
        from airflow_monai import settings
        from airflow_monai.argo.submission import workflow_name
        from airflow_monai.hooks.argo import argo_site
        from airflow_monai.hooks.http_hosts import HostRules

        task = self.light_task
        site = await argo_site(
            task["connection"],
            server_url=task["server_url"],
            token=task["token"],
            allow_insecure=task["allow_insecure"],
        )
        rules = HostRules.parse(await asyncio.to_thread(lambda: settings.load().http_allowed_hosts))
        cleaned = await asyncio.to_thread(_log_filter, run)
        number = await asyncio.to_thread(_number, run)
        return site, _Followed(site.server(rules, task["namespace"], cleaned), workflow_name(run.run, number))

    async def _start(self, run: LightRun, site: ArgoSite, followed: _Followed) -> None:
        """Start the workflow, or find the one that another life has started; end those of earlier generations."""
        server = followed.server
        if run.run.generation > 1:
            await self._patiently(lambda: self._end_others(run, followed))
        if await self._patiently(lambda: server.status(followed.name)) is None:
            submission = await asyncio.to_thread(self._prepared, run, site, followed)
            is_new = await self._patiently(lambda: server.submit(submission))
            self.log.info("%s %s", followed.told, "was started" if is_new else "had been started before")
        await asyncio.to_thread(lambda: run.keep(submitted=followed.name))

    def _prepared(self, run: LightRun, site: ArgoSite, followed: _Followed) -> Submission:
        from airflow_monai.argo.submission import Submission, run_labels, task_labels
        from airflow_monai.triggers.argo_inputs import argo_text, parameters, prepare_output

        task, number = self.light_task, run.state.get("number", 1)
        if run.note_once(f"output{number}", {"workflow": followed.name}):
            prepare_output(run.run)
        return Submission(
            name=followed.name,
            namespace=followed.server.namespace,
            template=task["template"],
            parameters=parameters(run, task, site.store_path),
            labels={**task_labels(run.run), **run_labels(run.run)},
            limits={name: argo_text(run, value) for name, value in task["limits"].items()},
            priority_class=task["priority_class"],
            deadline_seconds=task["deadline_seconds"] or int(task["timeout_seconds"]) or None,
        )

    async def _end_others(self, run: LightRun, followed: _Followed) -> None:
        """Terminate what earlier generations of the task, which somebody cleared, have left running."""
        from airflow_monai.argo.submission import task_labels

        for name, status in (await followed.server.find(task_labels(run.run))).items():
            if name != followed.name and not status.has_ended:
                self.log.info("Terminating %s, which the task had started before it was cleared", name)
                await followed.server.terminate(name)

    async def _ended(self, run: LightRun, followed: _Followed) -> WorkflowStatus:
        server, wait = followed.server, FIRST_WAIT
        while True:
            status = await self._patiently(lambda: server.status(followed.name))
            if status is None:
                await self._ended_badly(run)
                raise JobInterrupted(f"{followed.told} of task {run.run.task_id} was deleted before it had ended.")
            if status.phase == "Succeeded":
                return status
            if status.has_ended:
                return await self._patiently(lambda: server.status(followed.name, with_nodes=True)) or status
            await asyncio.sleep(wait)
            wait = min(wait * GROWTH, LONGEST_WAIT)

    async def _ended_badly(self, run: LightRun) -> None:
        """Let the next try start another workflow, and this one, should its triggerer die now, find the same."""
        await asyncio.to_thread(lambda: run.keep(**{ENDED_BADLY: run.state["try_id"]}))

    def _published(self, run: LightRun, followed: _Followed, status: WorkflowStatus) -> Outcome:
        import shutil

        from airflow_monai.maps.job import staging_folder
        from airflow_monai.maps.outputs import collect
        from airflow_monai.maps.workspace import publish, shared

        what = f"{followed.told} of task {run.run.task_id}"
        collected = collect(shared(run.run.store, run.run.output_key), self.light_task["outputs"], what=what)
        folder = publish(run.run)
        artifacts = {name: tuple(f"{folder}/{path}" for path in paths) for name, paths in collected.artifacts.items()}
        shutil.rmtree(staging_folder(run.run), ignore_errors=True)
        facts = {
            "argo_workflow": followed.name,
            "argo_namespace": followed.server.namespace,
            "argo_url": followed.server.page(followed.name),
        }
        return Outcome(collected.result, artifacts, {**facts, **status.stats()}, folder, xcom=facts)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await patiently(ask, min(5.0, LONGEST_WAIT), self.log)


def _number(run: LightRun) -> int:
    """Which workflow of this generation this try has: another one after one that ended badly in an earlier try."""
    state: dict[str, Any] = run.refresh()
    if state.get(ENDED_BADLY) not in (None, state["try_id"]):
        run.keep(**{ENDED_BADLY: None, "number": state.get("number", 1) + 1})
    return int(run.state.get("number", 1))


def _log_filter(run: LightRun) -> Callable[[str], str]:
    from airflow_monai.maps.logs import LogFilter
    from airflow_monai.store.payloads import load_series_tags

    return LogFilter(run.run.payload, load_series_tags(run.run.store, run.run.payload.payload_id))
