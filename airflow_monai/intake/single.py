"""Sees single payloads through where no gateway does it: closes them, has them routed, and creates their runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_monai.intake.announcer import Announcer
from airflow_monai.store.intake import CloseReason, Intake
from airflow_monai.types import Payload

_LONGEST_PAUSE = 5.0


def see_through(intake: Intake, announcer: Announcer, payload_id: str, until: float) -> bool:
    """Whether all runs of the payload exist now, which is closed at once. Gateways may do the same meanwhile.

    :param until: when to stop waiting for what keeps it, on the monotonic clock.
    """
    payload = intake.close(payload_id, CloseReason.WHOLE)
    if not _repeat(lambda: announcer.route(payload), until):
        return False
    done = True
    if _is_rerun_whole(announcer, payload):
        done = see_through(intake, announcer, intake.gather(payload), until)
    if not _repeat(lambda: announcer.announce(payload_id), until):
        return False
    intake.sweep(payload_id)
    intake.done(payload_id)
    return done


def _is_rerun_whole(announcer: Announcer, payload: Payload) -> bool:
    return payload.is_late and announcer.wants_whole(payload.payload_id)


def _repeat(step: Callable[[], float | None], until: float) -> bool:
    """Whether the step was done in time."""
    while (delay := step()) is not None:
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(delay, left, _LONGEST_PAUSE))
    return True
