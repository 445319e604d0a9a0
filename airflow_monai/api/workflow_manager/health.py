"""Whether what the site's workflows need can be reached. Anybody may ask; an answer names no host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from airflow_monai.api.runs import site_store
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.broker.base import LibraryMissing, open_broker

KEPT_SECONDS = 5.0
"""So long an answer counts: asking often costs no more than asking now and then."""
BROKER_SECONDS = 5.0
"""So long a broker may take to let us in."""

router = APIRouter(prefix=f"{PREFIX}/health", tags=["Workflow Manager: health"])


class Health(str, Enum):
    """``Degraded``: what is there works on, but nothing new comes in. ``Unknown``: nobody has told."""

    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    UNHEALTHY = "Unhealthy"
    UNKNOWN = "Unknown"


class Check(BaseModel):
    check: str = Field(examples=["store"])
    result: Health


class Report(BaseModel):
    status: Health = Field(examples=[Health.HEALTHY])
    checks: list[Check]


@router.get("", responses={503: {"model": Report, "description": "Something that is needed cannot be reached."}})
def health(response: Response) -> Report:
    """200 when all is well or only degraded, else 503."""
    report = _kept.report()
    response.status_code = 503 if report.status is Health.UNHEALTHY else 200
    response.headers["Cache-Control"] = "no-store"
    return report


class Kept:
    """Looks, and tells the same for some seconds. Of many who ask one looks; the others are told what was seen last."""

    def __init__(self, look: Callable[[], Report], clock: Callable[[], float] = time.monotonic):
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._until = 0.0

    def report(self) -> Report:
        seen = self._report
        if seen is not None and self._clock() < self._until:
            return seen
        if not self._lock.acquire(blocking=seen is None) and seen is not None:
            return seen
        try:
            if self._report is None or self._clock() >= self._until:
                self._report = self._look()
                self._until = self._clock() + KEPT_SECONDS
            return self._report
        finally:
            self._lock.release()


def look() -> Report:
    """Look at everything now."""
    checks = list(_checks())
    results = {check.result for check in checks}
    worst = next((one for one in (Health.UNHEALTHY, Health.DEGRADED) if one in results), Health.HEALTHY)
    return Report(status=worst, checks=checks)


def _checks() -> Iterator[Check]:
    yield Check(check="store", result=_tried(_store))
    yield Check(check="airflow database", result=_tried(_database))
    yield Check(check="gateway", result=_tried(_gateway))
    if conn_id := _broker():
        yield Check(check="broker", result=_in_time(lambda: _logged_in(conn_id)))


def _tried(check: Callable[[], Health]) -> Health:
    try:
        return check()
    except Exception:  # noqa: BLE001 - whatever it is, it is the answer; the parts themselves log their errors
        return Health.UNHEALTHY


def _store() -> Health:
    next(iter(site_store().children("pending")), None)
    return Health.HEALTHY


def _database() -> Health:
    from airflow.utils.session import create_session
    from sqlalchemy import text

    with create_session() as session:
        session.execute(text("SELECT 1"))
    return Health.HEALTHY


def _gateway() -> Health:
    """Without one nothing arrives and nothing is deleted; what runs goes on."""
    from airflow_monai.store.heartbeat import ALIVE_SECONDS, last_heartbeat

    age = last_heartbeat(site_store())
    return Health.UNKNOWN if age is None else Health.HEALTHY if age < ALIVE_SECONDS else Health.DEGRADED


def _broker() -> str:
    from airflow_monai import settings

    return settings.load_broker().conn_id


def _logged_in(conn_id: str) -> Health:
    """Of whatever kind it is, its own library says so; where that is not installed with this API server, nobody can."""
    from airflow_monai.hooks.broker import broker_address

    try:
        broker = open_broker(broker_address(conn_id))
    except LibraryMissing:
        return Health.UNKNOWN
    broker.test()
    return Health.HEALTHY


class InTime:
    """Has a thread of its own look, which may go on for longer than whoever asks can wait. Never two at once.

    :param seconds: after which what is looked at counts as out of reach.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._thread: threading.Thread | None = None

    def __call__(self, check: Callable[[], Health]) -> Health:
        if self._thread is not None and self._thread.is_alive():
            return Health.UNHEALTHY  # the one before still waits
        found: list[Health] = []
        self._thread = threading.Thread(target=lambda: found.append(_tried(check)), name="health", daemon=True)
        self._thread.start()
        self._thread.join(self._seconds)
        return found[0] if found else Health.UNHEALTHY


_in_time = InTime(BROKER_SECONDS)
_kept = Kept(look)
