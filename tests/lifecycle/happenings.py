"""Events for tests, and a receiver that behaves as it is told."""

from __future__ import annotations

from collections.abc import Callable

from airflow_monai.lifecycle.happening import Happening, What, happening_id
from airflow_monai.lifecycle.outbox import Attempt, Verdict
from airflow_monai.store.payloads import instance_id_of
from airflow_monai.types import TaskStatus

AT = "2026-03-01T10:00:00+00:00"


def happening(run: str = "a", what: What = What.WORKFLOW_COMPLETED, mark: object = "", at: str = AT) -> Happening:
    instance_id = instance_id_of("ct-lung", run)
    of_task = {"task_id": "segment", "try_number": 1, "first_try": 1, "execution_id": "e"} if what.is_of_task else {}
    return Happening(
        id=happening_id(instance_id, what, mark),
        what=what,
        at=at,
        instance_id=instance_id,
        dag_id="ct-lung",
        run_id=run,
        run_began=AT,
        workflow="CT lung",
        payload_id="0b8ee4f2-0000-4000-8000-000000000001",
        correlation_id="c",
        state="running" if what in (What.WORKFLOW_STARTED, What.TASK_STARTED) else "success",
        status=TaskStatus.SUCCEEDED,
        started=AT,
        ended=AT,
        **of_task,  # type: ignore[arg-type]
    )


class Ear:
    """Keeps what it is told.

    :param answer: what becomes of an event.
    """

    def __init__(self, answer: Callable[[Happening], Verdict] = lambda event: Verdict.TOLD):
        self.answer = answer
        self.heard: list[Happening] = []
        self.tried: list[Happening] = []
        self.wanted: set[What] | None = None

    def wants(self, event: Happening) -> bool:
        return self.wanted is None or event.what in self.wanted

    def tell(self, event: Happening) -> Attempt:
        self.tried.append(event)
        verdict = self.answer(event)
        if verdict is Verdict.TOLD:
            self.heard.append(event)
        return Attempt(verdict, "" if verdict is Verdict.TOLD else "because")

    def close(self) -> None:
        pass


class Clock:
    """:ivar now: seconds since the epoch."""

    def __init__(self) -> None:
        self.now = 1_772_359_200.0  # AT

    def __call__(self) -> float:
        return self.now
