"""Events to publish, and what became of them."""

from __future__ import annotations

import threading

from airflow_monai.broker.base import Delivered
from airflow_monai.broker.events import ExportCompleteEvent, ExportStatus


def event(number: int = 0) -> ExportCompleteEvent:
    return ExportCompleteEvent(workflow_instance_id="w", export_task_id=str(number), status=ExportStatus.SUCCESS)


class Inbox:
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.got: list[Delivered] = []
        self.states: list[str | None] = []
        self.lock = threading.Lock()

    def __call__(self, delivered: Delivered) -> None:
        with self.lock:
            self.got.append(delivered)


def names(inbox: Inbox) -> list[str]:
    return [delivered.message.message_id for delivered in inbox.got]
