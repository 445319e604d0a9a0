"""Decides in the triggerer whether a join's task runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from enum import Enum
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

QUESTIONS = 6
"""How often Airflow is asked for the states of the ways before the join fails; the pauses double from a second on."""


class Verdict(str, Enum):
    """What becomes of the task after a join."""

    RUN = "run"
    SKIP = "skip"
    FAIL = "fail"


def verdict_of(states: Collection[str | None]) -> Verdict:
    """What the states of all ways into a task come to, when each of them has ended."""
    if "success" in states:
        return Verdict.RUN
    return Verdict.SKIP if all(state in ("skipped", "removed") for state in states) else Verdict.FAIL


def states_of(ways: Sequence[str], map_index: int, told: Mapping[str, Any]) -> list[str | None]:
    """The states of the ways: those of the same series, or of none; outside of mapped tasks those of all series.

    :param told: task id, with ``_<map index>`` in mapped tasks, -> state. All ways lead to one task and so end with its
        id: none can be taken for a part of another one.
    """
    if map_index >= 0:
        names = [f"{way}_{map_index}" if f"{way}_{map_index}" in told else way for way in ways]
    else:
        names = [name for name in told if name in ways or name.rpartition("_")[0] in ways]
    return [None if told.get(name) is None else str(told[name]) for name in names]


class JoinTrigger(BaseTrigger):
    """Ends its task as success (the task after it runs), skipped, or failed.

    :param dag_id: and ``run_id``, ``map_index`` (templated): which join of which workflow instance.
    :param ways: ids of the nodes of the ways into the task.
    """

    def __init__(self, *, dag_id: str, run_id: str, ways: Sequence[str], map_index: str | int = -1):
        super().__init__()
        self.dag_id = dag_id
        self.run_id = run_id
        self.map_index = map_index
        self.ways = list(ways)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("dag_id", "run_id", "map_index", "ways")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        states = states_of(self.ways, int(self.map_index), await self._told())
        verdict = verdict_of(states)
        self.log.info("The ways into the task have ended as %s: %s", sorted(map(str, states)), verdict.value)
        if verdict is Verdict.RUN:
            yield TaskSuccessEvent()
        elif verdict is Verdict.SKIP:
            yield TaskSkippedEvent()
        else:
            yield TaskFailedEvent()

    async def _told(self) -> Mapping[str, Any]:
        """What Airflow says of the ways; asked again when it does not answer."""
        for question in range(1, QUESTIONS):
            try:
                return await asyncio.to_thread(self._ask)
            except Exception as error:  # noqa: BLE001 - whatever it is, there is nobody else to ask
                self.log.warning("Airflow does not tell the states of the ways: %s; asking again", type(error).__name__)
            await asyncio.sleep(2 ** (question - 1))
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Mapping[str, Any]:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        told = RuntimeTaskInstance.get_task_states(dag_id=self.dag_id, task_ids=self.ways, run_ids=[self.run_id])
        return told.get(self.run_id, {})
