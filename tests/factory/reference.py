"""What must become of a workflow's tasks, said without Airflow: the reference that random graphs are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What an edge's condition comes to; one that cannot be evaluated is not taken."""

    NONE = "no condition"
    TRUE = "true"
    FALSE = "false"
    FAILING = "cannot be evaluated"


TAKEN = (Verdict.NONE, Verdict.TRUE)


@dataclass(frozen=True)
class Way:
    """An edge between tasks by number, with what its condition comes to."""

    source: int
    target: int
    verdict: Verdict


def expected_states(tasks: int, ways: Sequence[Way], failing: frozenset[int]) -> Mapping[int, str]:
    """State of each task. Tasks are numbered so that every way goes from a lower to a higher number; 0 is the root."""
    states: dict[int, str] = {}
    for task in range(tasks):
        arrivals = [_arrival(states[way.source], way.verdict) for way in ways if way.target == task]
        states[task] = _state(arrivals, task in failing) if task else ("failed" if 0 in failing else "success")
    return states


def _arrival(source: str, verdict: Verdict) -> str:
    """What comes over an edge: ``go``, ``not`` (nobody needs this task) or ``broken`` (something before it failed)."""
    if source in ("failed", "upstream_failed"):
        return "broken"
    return "go" if source == "success" and verdict in TAKEN else "not"


def _state(arrivals: Sequence[str], fails: bool) -> str:
    if "broken" in arrivals:
        return "upstream_failed"
    if "go" not in arrivals:
        return "skipped"
    return "failed" if fails else "success"


def expected_run(states: Mapping[int, str]) -> str:
    """A run fails exactly when a task failed, whatever ran beside it."""
    return "failed" if "failed" in states.values() else "success"
