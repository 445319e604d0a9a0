"""What a notification says: ids, status and times, and where to ask for more. Nothing of the patient."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow_monai.lifecycle.happening import Happening
from airflow_monai.maps.workflows import PREFIX

TEST_EVENT = "test"


@dataclass(frozen=True, slots=True)
class Notification:
    """
    :param key: the same however often it is sent.
    """

    key: str
    event: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Links:
    """
    :param base: address of Airflow's API server, without a final slash; empty for addresses without a host.
    """

    base: str = ""

    def of(self, event: Happening) -> dict[str, str]:
        dag, run = quote(event.dag_id, safe=""), quote(event.run_id, safe="")
        job = {"job": f"{self.base}/monai/app-server/jobs/{event.instance_id}"} if is_of_job(event) else {}
        return {
            **job,
            "workflow_instance": f"{self.base}/monai/workflow-manager/workflowinstances/{event.instance_id}",
            "airflow": f"{self.base}/dags/{dag}/runs/{run}",
        }


def is_of_job(event: Happening) -> bool:
    """Whether the App Server API has it as a job: the runs of registered MAPs' workflows are, others are instances of
    workflows only."""
    return event.dag_id.startswith(PREFIX)


def notification(event: Happening, links: Links) -> Notification:
    """What is posted when something has happened."""
    told: dict[str, Any] = {
        "id": event.id,
        "event": event.what.value,
        "at": event.at,
        **({"job_id": event.instance_id} if is_of_job(event) else {}),
        "workflow_instance_id": event.instance_id,
        "workflow": event.workflow,
        "dag_id": event.dag_id,
        "run_id": event.run_id,
        "payload_id": event.payload_id,
        "correlation_id": event.correlation_id,
        "status": event.status.value,
        "started": event.started or None,
        "ended": event.ended or None,
        "links": links.of(event),
    }
    if event.what.is_of_task:
        told["task"] = {
            "task_id": event.task_id,
            "map_index": event.map_index if event.map_index >= 0 else None,
            "execution_id": event.execution_id,
            "try_number": event.try_number,
            "state": event.state,
        }
    return Notification(event.id, event.what.value, _json(told))


def test_notification(handler_id: str, at: str) -> Notification:
    """What is posted to see whether a handler answers."""
    key = str(uuid.uuid4())
    return Notification(key, TEST_EVENT, _json({"id": key, "event": TEST_EVENT, "at": at, "handler_id": handler_id}))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
