"""What is published of the life of workflow instances, in the form that others know.

These are notifications. Topics that command somebody (to run a task, to export, to cancel) are not among them: whoever
listens to all topics must have nothing to do because of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any

from airflow_monai.broker.base import APPLICATION_ID, JSON, Message
from airflow_monai.broker.events.base import Event
from airflow_monai.broker.events.draft import (
    State,
    Status,
    TaskCompleted,
    TaskStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from airflow_monai.broker.events.tasks import ExecutionStatus, FailureReason, TaskUpdateEvent
from airflow_monai.broker.events.topics import (
    TASK_COMPLETED,
    TASK_STARTED,
    TASK_UPDATE,
    WORKFLOW_COMPLETED,
    WORKFLOW_STARTED,
)
from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.store.payloads import payload_key
from airflow_monai.types import TaskStatus

_WAITING = frozenset({"deferred", "awaiting_input", "up_for_retry", "up_for_reschedule"})


class Dialect(str, Enum):
    """Whose words are used."""

    SHIPPED = "shipped"
    """Those of MONAI Deploy as it is shipped: ``md.tasks.update`` and no more."""
    SEED = "seed"
    """Those of the first draft: ``workflow.started`` and so on."""
    NONE = "none"

    def message(self, event: Happening) -> Message | None:
        """The message that tells of an event; None where this dialect has no word for it."""
        made = _MAKERS[self](event)
        if made is None:
            return None
        topic, body = made
        return Message(
            topic=topic,
            body=body.body(),
            message_id=event.id,
            correlation_id=event.correlation_id,
            app_id=APPLICATION_ID,
            content_type=JSON,
            type=type(body).__name__,
            timestamp=int(time.time()),
            needs_queue=False,
        )

    def has_word_for(self, what: What) -> bool:
        return what in _WORDS[self]


def _shipped(event: Happening) -> tuple[str, Event] | None:
    if not event.what.is_of_task:
        return None
    failed = event.status is TaskStatus.FAILED
    stats = {"state": event.state, "try_number": str(event.try_number), "started": event.started, "ended": event.ended}
    return TASK_UPDATE, TaskUpdateEvent(
        workflow_instance_id=event.instance_id,
        task_id=event.task_id,
        execution_id=event.execution_id,
        correlation_id=event.correlation_id,
        status=ExecutionStatus(event.status.value),
        reason=FailureReason.UNKNOWN if failed else FailureReason.NONE,
        task_stats={name: value for name, value in stats.items() if value},
        metadata={} if event.map_index < 0 else {"map_index": event.map_index},
    )


def _seed(event: Happening) -> tuple[str, Event] | None:
    more: dict[str, Any] = {
        "transaction_id": event.instance_id,
        "correlation_id": event.correlation_id,
        "status": Status[event.status.name],
        "state": _state(event),
        "date_started": datetime.fromisoformat(event.started),
    }
    of_task: dict[str, Any] = {
        "payload_path": payload_key(event.payload_id),
        "task_id": event.task_id,
        "execution_id": event.execution_id,
    }
    match event.what:
        case What.WORKFLOW_STARTED:
            return WORKFLOW_STARTED, WorkflowStarted(**more)
        case What.WORKFLOW_COMPLETED:
            return WORKFLOW_COMPLETED, WorkflowCompleted(**more, date_completed=datetime.fromisoformat(event.ended))
        case What.TASK_STARTED:
            return TASK_STARTED, TaskStarted(**more, **of_task)
        case What.TASK_COMPLETED:
            return TASK_COMPLETED, TaskCompleted(**more, **of_task, date_completed=datetime.fromisoformat(event.ended))
    return None


def _state(event: Happening) -> State:
    if event.what in (What.WORKFLOW_COMPLETED, What.TASK_COMPLETED):
        return State.ENDED
    return State.WAITING if event.state in _WAITING else State.RUNNING


_MAKERS: dict[Dialect, Callable[[Happening], tuple[str, Event] | None]] = {
    Dialect.SHIPPED: _shipped,
    Dialect.SEED: _seed,
    Dialect.NONE: lambda event: None,
}
_WORDS: dict[Dialect, frozenset[What]] = {
    Dialect.SHIPPED: frozenset({What.TASK_STARTED, What.TASK_UPDATED, What.TASK_COMPLETED}),
    Dialect.SEED: frozenset(What) - {What.TASK_UPDATED},
    Dialect.NONE: frozenset(),
}
