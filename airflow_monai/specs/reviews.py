"""What follows a clinical review: the ways for a rejection, and the condition that every other way gets.

As published, a rejected review ends as ``PartialFail`` and starts nothing. Here an author may also say what follows a
rejection: a destination whose conditions can hold only when the review was rejected is a way for that. All others are
taken only after an acceptance, whatever their conditions say, so that nothing rejected is ever exported by oversight.
Since a task may be reached by other ways too, by those of other series for example, what a review did not accept is
also kept from every task to which the acceptance leads (:func:`guards`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import Any

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions.ast import And, Node, Or, templates
from airflow_monai.specs.conditions.evaluation import holds
from airflow_monai.specs.conditions.parser import parse
from airflow_monai.specs.graph import reachable
from airflow_monai.specs.plan import Edge
from airflow_monai.types import TaskStatus

ACCEPTANCE = "acceptance"
"""Key of a review's result."""


class ReviewRoute(str, Enum):
    """When a destination of a review may be taken."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EITHER = "either"
    """Its conditions ask for the outcome and may hold after both: it is taken after an acceptance only."""
    NEVER = "never"


def route_of(review: str, conditions: Iterable[str]) -> ReviewRoute:
    """What the conditions of a destination say about the outcome of the review before it.

    :param conditions: with the review's id spelled as the task's; one that cannot be read is passed over.
    """
    trees = [tree for text in conditions if (tree := _tree(text)) is not None]
    accepted = _all(trees, _outcome(review, True))
    rejected = _all(trees, _outcome(review, False))
    if accepted is False:
        return ReviewRoute.NEVER if rejected is False else ReviewRoute.REJECTED
    asks = any(template.path in _outcome(review, True) for tree in trees for template in templates(tree))
    return ReviewRoute.EITHER if asks and rejected is not False else ReviewRoute.ACCEPTED


def with_acceptance(review: str, conditions: tuple[str, ...]) -> tuple[str, ...]:
    """The conditions of a review's destination, with the acceptance among them unless it is for a rejection."""
    if route_of(review, conditions) in (ReviewRoute.REJECTED, ReviewRoute.NEVER):
        return conditions
    return (f"{{{{ {_status(review)} }}}} == '{TaskStatus.SUCCEEDED.value}'", *conditions)


def guards(shown: Mapping[str, Collection[str]], edges: Iterable[Edge]) -> Callable[[str, str], tuple[str, ...]]:
    """Gives the reviews that decide whether a task may use what another one made.

    :param shown: id of each review -> ids of the tasks whose results it shows.
    :param edges: all ways of the workflow.
    """
    graph: dict[str, tuple[str, ...]] = {}
    accepted: dict[str, list[str]] = {review: [] for review in shown}
    for edge in edges:
        graph[edge.source] = (*graph.get(edge.source, ()), edge.target)
        if edge.source in shown and route_of(edge.source, edge.conditions) is ReviewRoute.ACCEPTED:
            accepted[edge.source].append(edge.target)
    behind = {review: reachable(graph, *targets) for review, targets in accepted.items()}
    return lambda task, source: tuple(review for review in shown if source in shown[review] and task in behind[review])


def _status(review: str) -> str:
    return f"context.executions.{review}.status"


def _outcome(review: str, accepted: bool) -> Mapping[str, Any]:
    status = TaskStatus.SUCCEEDED if accepted else TaskStatus.PARTIAL_FAIL
    return {_status(review): status.value, f"context.executions.{review}.result.{ACCEPTANCE}": accepted}


def _tree(text: str) -> Node | None:
    try:
        return parse(text) if text.strip() else None
    except ConditionError:
        return None


def _verdict(node: Node, known: Mapping[str, Any]) -> bool | None:
    """Whether a condition holds as far as the known values tell, None where they do not."""
    if isinstance(node, And):
        return _all(node.parts, known)
    if isinstance(node, Or):
        return _any(node.parts, known)
    if not all(template.path in known for template in templates(node)):
        return None
    return _or_unknown(lambda: holds(node, known.__getitem__))


def _all(nodes: Iterable[Node], known: Mapping[str, Any]) -> bool | None:
    verdicts = [_verdict(node, known) for node in nodes]
    return False if False in verdicts else (None if None in verdicts else True)


def _any(nodes: Iterable[Node], known: Mapping[str, Any]) -> bool | None:
    verdicts = [_verdict(node, known) for node in nodes]
    return True if True in verdicts else (None if None in verdicts else False)


def _or_unknown(decide: Callable[[], bool]) -> bool | None:
    try:
        return decide()
    except ConditionError:
        return None
