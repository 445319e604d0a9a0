"""Wait for the end of an export, in a DAG written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow_monai.sensors.watch import WatchSensor


class ExportFinishedSensor(WatchSensor):
    """Wait until an export task of a workflow has delivered everything; return ``{destination: accepted instances}``.

    :param payload_id: of the payload that the export belongs to (templated).
    :param workflow: DAG id of the workflow that has the export task.
    :param export_task_id: the task.
    :param run_id: of the workflow instance; empty for the one that the payload's arrival started (templated).
    :param fail_when_refused: fail as soon as the export has failed. By default it is waited for on: a retry, or a
        person who clears the task, may still deliver.
    :param poll_interval: seconds between two looks at the store.
    :param timeout: give up and fail after this time.
    """

    template_fields: Sequence[str] = ("payload_id", "run_id")
    trigger = "airflow_monai.triggers.export.ExportFinishedTrigger"

    def __init__(
        self,
        *,
        payload_id: str,
        workflow: str,
        export_task_id: str,
        run_id: str = "",
        fail_when_refused: bool = False,
        poll_interval: float = 2.0,
        timeout: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ):
        arguments = {
            "payload_id": payload_id,
            "workflow": workflow,
            "export_task_id": export_task_id,
            "run_id": run_id,
            "fail_when_refused": fail_when_refused,
        }
        super().__init__(arguments=arguments, poll_interval=poll_interval, timeout=timeout, **kwargs)
