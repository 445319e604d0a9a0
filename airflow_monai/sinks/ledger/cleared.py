"""Whether the task that delivered something can do so again."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

_BEGUN = {"running", "restarting", "deferred", "awaiting_input"}
_COMING = {"None", "scheduled", "queued", "up_for_retry", "up_for_reschedule"}
"""States of tasks; one without any will be scheduled when its turn comes."""


class Cleared(str, Enum):
    """Whether a task runs once more."""

    YES = "RunsAgain"
    COMING = "Waits"
    """To run already, and sends it then."""
    RUNNING = "Running"
    """Now: it may have begun without it."""
    GONE = "Gone"
    """Airflow does not have it any more."""
    SENT = "Sent"
    """It has sent it since it was wanted again: there is nothing to run for."""

    @property
    def is_done(self) -> bool:
        """Whether what is to be sent again was, or is going to be, by this task."""
        return self in (Cleared.YES, Cleared.COMING, Cleared.SENT)

    @classmethod
    def already(cls, states: Collection[str]) -> Cleared | None:
        """How a task is that need not, or cannot, be cleared; None for one that can.

        :param states: of its instances in Airflow. Where some of many are to run and the others have ended, what those
            had delivered would not be sent: all are cleared then.
        """
        if not states:
            return cls.GONE
        if not _BEGUN.isdisjoint(states):
            return cls.RUNNING
        return cls.COMING if _COMING.issuperset(states) else None
