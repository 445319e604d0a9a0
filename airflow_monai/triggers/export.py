"""Waits in the triggerer for the end of an export."""

from __future__ import annotations

from typing import Any

from airflow_monai.errors import PayloadNotFound
from airflow_monai.store.payloads import payload_key, run_id_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.triggers.watch import NeverFound, StoreWatchTrigger, site_store
from airflow_monai.types import TaskStatus


class ExportFinishedTrigger(StoreWatchTrigger):
    """Fires with how many instances each destination has accepted, when an export task has delivered all.

    :param payload_id: of the payload that the export belongs to.
    :param workflow: DAG id of the workflow that has the export task.
    :param export_task_id: the task.
    :param run_id: of the workflow instance; empty for the one that the payload's arrival started.
    :param fail_when_refused: whether an export that failed ends the waiting; else a retry, or a person who clears the
        task, may still deliver.
    """

    arguments = ("payload_id", "workflow", "export_task_id", "run_id", "fail_when_refused")

    def __init__(
        self,
        *,
        payload_id: str,
        workflow: str,
        export_task_id: str,
        run_id: str = "",
        fail_when_refused: bool = False,
        poll_interval: float = 2.0,
    ):
        super().__init__(poll_interval=poll_interval)
        self.payload_id = payload_id
        self.workflow = workflow
        self.export_task_id = export_task_id
        self.run_id = run_id
        self.fail_when_refused = fail_when_refused

    def find(self) -> dict[str, Any] | None:
        """``{destination: accepted instances}``; None while the task has not ended well."""
        try:
            payload_key(self.payload_id)
        except PayloadNotFound:
            raise NeverFound(f"{self.payload_id!r} is no payload id: payload_id wants a UUID.") from None
        run_id = self.run_id or run_id_of(self.payload_id)
        record = RunFolder(site_store(), self.payload_id, self.workflow, run_id).record(self.export_task_id)
        if record is None or record.status not in (TaskStatus.SUCCEEDED, TaskStatus.FAILED):
            return None
        if record.status is TaskStatus.FAILED:
            if self.fail_when_refused:
                raise NeverFound(f"Export task {self.export_task_id} of {self.workflow} failed: {record.error_msg}")
            return None
        accepted = record.result.get("accepted")
        if not isinstance(accepted, dict):
            raise NeverFound(
                f"Task {self.export_task_id} of {self.workflow} is of type {record.task_type}, no export: it delivers "
                "nothing."
            )
        return accepted
