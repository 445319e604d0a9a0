"""Problems of one reading of a file, each with its place: also where a value is from another file."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_monai.specs.findings import Finding, Location, path_of
from airflow_monai.specs.problems import Problem, Severity
from airflow_monai.specs.tree.loader import LoadError
from airflow_monai.specs.tree.nodes import Node, Origin, lines_of, place_within

MAX_PROBLEMS = 100
MAX_TOLD = 1_000
_ABSENT = "missing-"
"""Begins the codes of what lacks: the place is where it should be, and that is the file being read."""


class TooMany(Exception):
    """There are so many problems that looking for more helps nobody."""


class Reporter:
    """Collects the problems of one text.

    :param source: name of the file, for messages.
    :ivar origin: that file; ``problems``: what was found so far.
    """

    def __init__(self, source: str):
        self.origin = Origin(source, "")
        self.problems: list[Problem] = []

    def begin(self, text: str) -> None:
        """The text that problems are about, as soon as it can be read."""
        self.origin = Origin(self.origin.source, text)

    def broken(self, error: LoadError) -> None:
        """Add what the loader found."""
        self._add(self.origin, error.line, error.column, error.code, error.message, error.hint)

    def at_node(
        self,
        node: Node,
        code: str,
        message: str,
        hint: str = "",
        severity: Severity = Severity.ERROR,
        *,
        at: Location = (),
    ) -> None:
        """Add a problem of a node, which stands at this place."""
        self._add(node.origin or self.origin, node.line, node.column, code, message, hint, severity, at)

    def found(self, findings: Iterable[Finding], places: dict[Location, Node]) -> None:
        """Add findings of the model."""
        for finding in findings:
            node = node_at(finding.at, places, own=finding.code.startswith(_ABSENT))
            origin = node.origin or self.origin
            line, column = node.line, node.column
            if finding.offset or finding.code == "bad-condition":
                line, column = (number - 1 for number in place_within(origin.text, node, finding.offset))
            self._add(origin, line, column, finding.code, finding.message, finding.hint, finding.severity, finding.at)

    def _add(
        self,
        origin: Origin,
        line: int,
        column: int,
        code: str,
        message: str,
        hint: str = "",
        severity: Severity = Severity.ERROR,
        at: Location = (),
    ) -> None:
        if len(self.problems) == MAX_PROBLEMS:
            code, severity, hint = "too-many-problems", Severity.ERROR, "mend these first"
            message = f"there are more than {MAX_PROBLEMS} problems; the others are not shown"
        line = min(line, len(lines_of(origin.text)) - 1)
        told = (_clipped(message), _clipped(hint), severity, origin.line(line))
        self.problems.append(Problem(origin.source, line + 1, column + 1, code, *told, path_of(at)))
        if len(self.problems) > MAX_PROBLEMS:
            raise TooMany


def _clipped(text: str) -> str:
    """A message without what it quotes at a length that helps nobody."""
    return text if len(text) <= MAX_TOLD else text[:MAX_TOLD] + "..."


def node_at(at: Location, places: dict[Location, Node], own: bool = False) -> Node:
    """The node of a place, or of the nearest one around it that there is.

    :param own: only one of the file being read will do.
    """
    while at and (at not in places or (own and places[at].origin is not None)):
        at = at[:-1]
    return places[at]
