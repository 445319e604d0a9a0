"""Asks for the run of an application elsewhere, once, and waits for what it sends back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_monai.errors import InvalidArgument, JobFailed, MissingOutput, NothingToExport
from airflow_monai.tasks.run import Outcome
from airflow_monai.triggers.light import LightRun, LightTrigger

if TYPE_CHECKING:
    from airflow_monai.broker.base import BrokerAddress, Message
    from airflow_monai.sinks.order import ExportOrder

POLL_SECONDS = 2.0
ARTIFACTS, EXPORT, CALLBACK = "remote-artifacts", "remote-export", "remote-callback"
"""Notes that answers become: see :mod:`airflow_monai.store.answers`."""
_SOURCE = "MONAI"


class RemoteAppTrigger(LightTrigger):
    """The whole of a ``remote_app_execution`` task.

    :param task: besides what all light tasks are told ``destinations``, ``inputs`` and ``outputs``.
    """

    async def perform(self, run: LightRun) -> Outcome:
        if "published" not in run.state:
            address = await _broker()
            await asyncio.to_thread(self._ask, run, address)
            self.log.info("The application was asked for")
        while (outcome := await asyncio.to_thread(self._answered, run)) is None:
            await asyncio.sleep(POLL_SECONDS)
        return outcome

    def _ask(self, run: LightRun, address: BrokerAddress) -> None:
        """Publish the request. A life that died before it could note so published the same message."""
        from airflow_monai.broker.base import open_broker
        from airflow_monai.broker.events.topics import EXTERNAL_APP_REQUEST

        order = _order(run)
        with TemporaryDirectory(prefix="monai-remote-") as scratch:
            files = self._files(run, Path(scratch))
        message = self._message(EXTERNAL_APP_REQUEST, run, order, files)
        self._await(run, order)
        run.run.fence.check()
        with open_broker(address).publisher() as publisher:
            publisher.publish(message)
        run.keep(published=message.message_id)

    def _files(self, run: LightRun, scratch: Path) -> list[str]:
        """Paths in the bucket of all files of the inputs."""
        from airflow_monai import settings
        from airflow_monai.broker.buckets import Buckets
        from airflow_monai.broker.outbox import Outbox
        from airflow_monai.operators.export_files import folder_of
        from airflow_monai.store.base import safe_name
        from airflow_monai.tasks.artifacts import resolve_artifact

        buckets = Buckets(settings.load_broker().buckets)
        outbox = Outbox(run.run.store, next(iter(buckets.urls)) if len(buckets.urls) == 1 else "", buckets)
        found: dict[str, str] = {}
        for artifact in self.light_task["inputs"]:
            files = resolve_artifact(run.run, artifact)
            if not files.keys and artifact.get("mandatory", True):
                raise NothingToExport(
                    f"Input artifact {artifact['name']!r} of task {run.run.task_id} has no files: the task that should "
                    f"have made it did not.{files.why_missing} Set mandatory: false if it may be absent."
                )
            for number, key in enumerate(files.keys):
                path = run.run.store.local_path(key)
                if path is None:
                    path = scratch / f"{len(found)}-{number}"
                    run.run.store.fetch(key, path)
                name = f"{folder_of(run.run, key)}/{safe_name(artifact['name'])}/{files.relative(key)}"
                found[key] = outbox.path_of(key, path, name)
        if not found:
            raise NothingToExport(f"Task {run.run.task_id} has nothing to send: none of its inputs has files.")
        return list(found.values())

    def _message(self, topic: str, run: LightRun, order: ExportOrder, files: list[str]) -> Message:
        from airflow_monai.broker.base import message_of
        from airflow_monai.broker.events import DataOrigin, DataService, ExternalAppRequestEvent

        correlation_id, message_id = order.correlation_id, order.task_guid("remote", "message")
        targets = tuple(
            DataOrigin(data_service=DataService.DIMSE, source=_SOURCE, destination=name[:16])
            for name in self.light_task["destinations"]
        )
        event = ExternalAppRequestEvent(
            workflow_instance_id=order.workflow_instance_id,
            export_task_id=_execution(order),
            correlation_id=correlation_id,
            message_id=message_id,
            files=tuple(files),
            targets=targets,
            destination_folder=f"{run.run.payload.payload_id}/inference/{_execution(order)}",
        )
        return message_of(topic, event, correlation_id=correlation_id, message_id=message_id)

    def _await(self, run: LightRun, order: ExportOrder) -> None:
        """Say in the store what is waited for, before anybody can answer."""
        from airflow_monai.store.answers import AnswerKind, Awaited, await_answer

        store, ids = run.run.store, (order.workflow_instance_id, _execution(order))
        outputs = tuple((item["name"], item.get("type") or "") for item in self.light_task["outputs"])
        artifacts = Awaited(order.waiting(ARTIFACTS), run.run.output_key, outputs)
        await_answer(store, AnswerKind.ARTIFACTS, ids, artifacts)
        await_answer(store, AnswerKind.EXPORT, ids, Awaited(order.waiting(EXPORT)))
        await_answer(store, AnswerKind.CALLBACK, (_execution(order),), Awaited(order.waiting(CALLBACK)))

    def _answered(self, run: LightRun) -> Outcome | None:
        """What the answers that are there make of the task; None while it waits on.

        :raises JobFailed: when the inputs could not be sent.
        :raises MissingOutput: when the application has ended without what it must give.
        """
        callback = run.noted(CALLBACK)  # first: what came before it must count
        artifacts = _artifacts(run)
        needed = [item["name"] for item in self.light_task["outputs"] if item.get("mandatory", True)]
        missing = [name for name in needed if name not in artifacts]
        if callback is None and (missing or not artifacts):
            self._check_sent(run)
            return None
        if missing:
            raise MissingOutput(
                f"The application of task {run.run.task_id} has ended and has not sent {', '.join(missing)}. Set "
                "mandatory: false if it may be absent."
            )
        result = callback["body"] if callback is not None and isinstance(callback["body"], dict) else {}
        return Outcome(result=result, artifacts=artifacts, output_dir=run.run.output_key if artifacts else None)

    @property
    def _named(self) -> str:
        return ", ".join(self.light_task["destinations"])

    def _check_sent(self, run: LightRun) -> None:
        answer = run.noted(EXPORT)
        if answer is not None and answer["body"]["status"] != "Success":
            raise JobFailed(
                f"The inputs of task {run.run.task_id} could not be sent to {self._named}; "
                f"the gateway there says {answer['body']['status']}. Clear the task to send them again."
            )


def _order(run: LightRun) -> ExportOrder:
    from airflow_monai.sinks.order import ExportOrder

    task = run.run
    return ExportOrder(task.folder, task.task_id, task.map_index, task.generation, task.run_started)


def _artifacts(run: LightRun) -> Mapping[str, tuple[str, ...]]:
    """Output -> store keys of its files, of all messages that have brought some."""
    task = run.run
    prefix = f"g{task.generation}.{ARTIFACTS}-"
    folder = task.folder.task_key(task.task_id, task.map_index)
    found: dict[str, set[str]] = {}
    for name in task.store.children(folder):
        if name.startswith(prefix):
            for output, keys in task.store.read_json(f"{folder}/{name}")["body"]["artifacts"].items():
                found.setdefault(output, set()).update(keys)
    return {output: tuple(sorted(keys)) for output, keys in sorted(found.items())}


async def _broker() -> Any:
    from airflow_monai import settings
    from airflow_monai.hooks.broker import abroker_address

    conn_id = (await asyncio.to_thread(settings.load_broker)).conn_id
    if not conn_id:
        raise InvalidArgument(
            "A remote_app_execution task needs a message broker, and this site has none: set [monai] broker_conn_id, "
            "or run the application as a map, docker or http_async task."
        )
    return await abroker_address(conn_id)


def _execution(order: ExportOrder) -> str:
    """The id of this execution in messages: that of an earlier run with the same name is another one."""
    return order.task_guid("execution")
