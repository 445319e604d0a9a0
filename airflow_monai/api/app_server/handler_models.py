"""What requests and answers about notification handlers hold."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.lifecycle.outbox import Outcome, Place, Waiting
from airflow_monai.notifications.handlers import MAX_SECRET, MAX_URL, MIN_SECRET, Handler

HANDLER_ID = "3f0c6a52-5f0b-4c9e-9d7e-0c1a4a4a7d55"
URL = "https://ris.hospital.example/monai"


class NewHandler(BaseModel):
    """A handler to register. Without a filter it is told of all jobs and workflow instances."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=MAX_URL, description="Where notifications are posted.", examples=[URL])
    events: list[What] = Field(
        [What.WORKFLOW_COMPLETED],
        min_length=1,
        max_length=20,
        description="A job is a workflow instance: its completion is workflow.completed.",
    )
    maps: list[str] = Field([], max_length=100, examples=[["lung-seg:1.2.0"]], description="Only jobs of these MAPs.")
    workflows: list[str] = Field([], max_length=100, description="Only these workflows (names or DAG ids).")
    jobs: list[str] = Field([], max_length=1000, description="Only these jobs or workflow instances (ids).")
    secret: str | None = Field(
        None,
        min_length=MIN_SECRET,
        max_length=MAX_SECRET,
        description="Signs what is sent. Left out: one is made, and told once.",
    )
    description: str = Field("", max_length=500)


class HandlerAnswer(BaseModel):
    """A handler; its secret is told to nobody."""

    id: str = Field(examples=[HANDLER_ID])
    url: str = Field(examples=[URL])
    events: list[What]
    dag_ids: list[str] = Field(description="Of the workflows that it is told of; none: of all.")
    jobs: list[str]
    owner: str
    registered: str
    description: str
    state: Literal["well", "failing", "lapsed"] = Field(
        description="failing: the last attempt was in vain; lapsed: it is told nothing more."
    )
    reason: str | None = Field(None, description="Why it is not well.")
    until: datetime | None = Field(
        None, description="When it lapses, unless its owner asks for it before, as by listing their handlers."
    )
    told: int = Field(description="Notifications that it has taken.")
    waiting: int = Field(description="Jobs and workflow instances whose notifications were tried in vain.")
    failed: int = Field(description="Notifications that were given up.")

    @classmethod
    def of(
        cls, handler: Handler, place: Place | None, until: datetime | None = None, lapsed: str = ""
    ) -> HandlerAnswer:
        """:param lapsed: why it is told nothing more."""
        at = place or Place(handler.start)
        return cls(
            id=handler.id,
            url=handler.url,
            events=list(handler.events),
            dag_ids=list(handler.dag_ids),
            jobs=list(handler.jobs),
            owner=handler.owner,
            registered=handler.registered,
            description=handler.description,
            state="lapsed" if lapsed else "failing" if at.failures else "well",
            reason=lapsed or at.reason or None,
            until=None if lapsed else until,
            told=at.told,
            waiting=len(at.waiting),
            failed=at.failed,
        )


class RegisteredHandler(HandlerAnswer):
    """A handler that was just registered."""

    secret: str | None = Field(None, description="The one that was made; never told again.")


class HandlerList(BaseModel):
    """Handlers, the oldest first."""

    handlers: list[HandlerAnswer]


class TestResult(BaseModel):
    """What became of a test."""

    __test__ = False  # no test class

    delivered: bool
    event_id: str = Field(description="Of the test, as the handler was told.")
    reason: str | None = Field(None, description="Why it was not delivered.")


class Delivery(BaseModel):
    """A notification, and what has become of it."""

    event_id: str
    event: What
    job_id: str
    state: Literal["delivered", "pending", "waiting", "failed"] = Field(
        description="pending: not tried yet; waiting: tried in vain, and tried again; failed: given up."
    )
    tries: int = 0
    at: str | None = Field(default=None, description="When it was delivered, or given up, or is tried again.")
    reason: str | None = None

    @classmethod
    def pending(cls, event: Happening) -> Delivery:
        return cls(event_id=event.id, event=event.what, job_id=event.instance_id, state="pending", at=None, reason=None)

    @classmethod
    def waits(cls, event: Happening, waiting: Waiting, is_first: bool, due: str) -> Delivery:
        """:param is_first: it was tried; the others wait behind it."""
        return cls(
            event_id=event.id,
            event=event.what,
            job_id=event.instance_id,
            state="waiting" if is_first else "pending",
            tries=waiting.tries if is_first else 0,
            at=due if is_first else None,
            reason=waiting.reason if is_first else None,
        )

    @classmethod
    def over(cls, outcome: Outcome, state: Literal["delivered", "failed"]) -> Delivery:
        return cls(
            event_id=outcome.event_id,
            event=What(outcome.what),
            job_id=outcome.instance_id,
            state=state,
            tries=outcome.tries,
            at=outcome.at,
            reason=outcome.reason or None,
        )


class DeliveryList(BaseModel):
    """Deliveries: those that failed, those that wait, those that are to come, and the latest that were delivered."""

    deliveries: list[Delivery]


class Again(BaseModel):
    """Which notifications to deliver all the same."""

    model_config = ConfigDict(extra="forbid")

    events: list[str] = Field([], max_length=200, description="Ids of events that were given up; none: all.")
