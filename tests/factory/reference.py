"""What must become of a workflow's tasks, said without Airflow: the reference that random graphs are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Verdict(Enum):
    """What an edge's condition comes to; one that cannot be evaluated is not taken."""

    NONE = "no condition"
    TRUE = "true"
    FALSE = "false"
    FAILING = "cannot be evaluated"
    SOME = "true for some series"


TAKEN = (Verdict.NONE, Verdict.TRUE)


@dataclass(frozen=True)
class Way:
    """An edge between tasks by number, with what its condition comes to.

    :param series: those for which a condition that is true for some series is true.
    """

    source: int
    target: int
    verdict: Verdict
    series: frozenset[int] = frozenset()

    def is_taken(self, series: int | None) -> bool:
        return self.verdict in TAKEN or (self.verdict is Verdict.SOME and series in self.series)


@dataclass(frozen=True)
class Tasks:
    """The tasks of a workflow, by number. Every way goes from a lower to a higher one; 0 is the root.

    :param mapped: those that run once for each series, of which there are ``series``.
    :param going_on: those that go on after a failure.
    :param failing: task and series of what fails; the series of a task that is not mapped is None.
    """

    count: int
    mapped: frozenset[int] = frozenset()
    going_on: frozenset[int] = frozenset()
    failing: frozenset[tuple[int, int | None]] = frozenset()
    series: int = 1
    ways: Sequence[Way] = field(default=())

    def instances(self, task: int) -> Iterator[int | None]:
        """The series that a task runs for; None for all at once."""
        yield from range(self.series) if task in self.mapped else (None,)


def expected_states(tasks: Tasks) -> Mapping[tuple[int, int | None], str]:
    """State of each task, for each series."""
    states: dict[tuple[int, int | None], str] = {}
    for task in range(tasks.count):
        for series in tasks.instances(task):
            arrivals = list(_arrivals(tasks, states, task, series)) if task else ["go"]
            states[task, series] = _state(arrivals, task in tasks.going_on, (task, series) in tasks.failing)
    return states


def _arrivals(
    tasks: Tasks, states: Mapping[tuple[int, int | None], str], task: int, series: int | None
) -> Iterator[str]:
    for way in tasks.ways:
        if way.target != task:
            continue
        is_of_series = way.source in tasks.mapped and task in tasks.mapped
        for of in (series,) if is_of_series else tasks.instances(way.source):
            yield _arrival(states[way.source, of], way.is_taken(of))


def _arrival(source: str, is_taken: bool) -> str:
    """What comes over an edge: ``go``, ``not`` (nobody needs this task) or ``broken`` (something before it failed)."""
    if source in ("failed", "upstream_failed"):
        return "broken"
    return "go" if source == "success" and is_taken else "not"


def _state(arrivals: Sequence[str], goes_on: bool, fails: bool) -> str:
    if "broken" in arrivals and not (goes_on and "go" in arrivals):
        return "upstream_failed"
    if "go" not in arrivals:
        return "skipped"
    return "failed" if fails else "success"


def expected_run(states: Mapping[tuple[int, int | None], str]) -> str:
    """A run fails exactly when a task failed, whatever ran beside it."""
    return "failed" if "failed" in states.values() else "success"
