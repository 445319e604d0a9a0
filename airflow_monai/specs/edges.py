"""Which edges of a task are taken: the one place that turns conditions into a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_monai.specs.conditions.parser import ConditionError, evaluate


@dataclass(frozen=True, slots=True)
class EdgeVerdict:
    """Whether an edge is taken, and why not.

    :param reason: names the condition, never the values that it compared (they may be a patient's).
    """

    taken: bool
    reason: str


def judge_edge(conditions: Iterable[str], resolve: Callable[[str], Any]) -> EdgeVerdict:
    """All conditions must hold; one that cannot be evaluated counts as not holding, and the reason says so."""
    for condition in conditions:
        if not condition.strip():
            continue
        try:
            holds = evaluate(condition, resolve)
        except ConditionError as error:
            return EdgeVerdict(False, f"not taken: the condition {condition!r} cannot be evaluated: {error}")
        if not holds:
            return EdgeVerdict(False, f"not taken: the condition {condition!r} is false")
    return EdgeVerdict(True, "taken")
