"""A workflow file to a spec, or to the list of everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from airflow_monai.errors import SpecError
from airflow_monai.specs.checks import check
from airflow_monai.specs.doubts import Doubts, invented_ids
from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.loader import MAX_BYTES, LoadError, compose, decode
from airflow_monai.specs.model import WorkflowSpec
from airflow_monai.specs.nodes import Node, Shape, place_within
from airflow_monai.specs.problems import Problem, Severity, errors_of, in_order
from airflow_monai.specs.shaping import Shaper
from airflow_monai.specs.validation import validated

MAX_PROBLEMS = 100


def load_workflow(path: str | os.PathLike[str]) -> WorkflowSpec:
    """The workflow of a YAML or JSON file.

    :raises SpecError: with all its problems, when it cannot be read or holds an error.
    """
    spec, problems = check_file(path)
    return _spec_or_raise(spec, problems, str(path))


def load_text(text: str | bytes, source: str) -> WorkflowSpec:
    """The workflow of a text.

    :param source: name of the file it is from, for messages.
    :raises SpecError: with all its problems, when it cannot be read or holds an error.
    """
    spec, problems = check_text(text, source)
    return _spec_or_raise(spec, problems, source)


def _spec_or_raise(spec: WorkflowSpec | None, problems: list[Problem], source: str) -> WorkflowSpec:
    if spec is not None:
        return spec
    errors = errors_of(problems)
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    text = "\n".join(str(problem) for problem in errors)
    raise SpecError(f"The workflow file {source} cannot be used, it has {count}:\n{text}", problems=tuple(problems))


def check_file(path: str | os.PathLike[str]) -> tuple[WorkflowSpec | None, list[Problem]]:
    """The workflow of a file, or None, and all problems of the file in the order of its lines."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return None, [Problem(str(path), 1, 1, "unreadable", f"the file cannot be read: {reason}", "check the path")]
    return check_text(data, str(path))


def check_text(text: str | bytes, source: str) -> tuple[WorkflowSpec | None, list[Problem]]:
    """The workflow of a text, or None, and all problems of the text in the order of its lines."""
    reader = _Reader(source)
    try:
        spec = reader.read(text)
    except LoadError as error:
        reader.broken(error)
        spec = None
    except _TooMany:
        spec = None
    problems = in_order(reader.problems)
    return (None if errors_of(problems) else spec), problems


class _TooMany(Exception):
    """There are so many problems that looking for more helps nobody."""


class _Reader:
    """One reading of one text; collects problems and gives them their places."""

    def __init__(self, source: str):
        self.source = source
        self.text = ""
        self.lines: list[str] = []
        self.problems: list[Problem] = []

    def read(self, text: str | bytes) -> WorkflowSpec | None:
        """The spec, also where it has problems; None where there is none.

        :raises LoadError: when the text is no YAML or JSON that may be read.
        """
        self.text = decode(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
        self.lines = self.text.split("\n")
        root, twice = compose(self.text, is_json=self.source.lower().endswith(".json"))
        for error in twice:
            self.broken(error)
        if root.shape is not Shape.MAPPING:
            hint = "begin with name: ..., version: ..., informatics_gateway: ..., tasks: ..."
            message = f"a workflow is a mapping, not {root.shape.value}"
            raise LoadError("wrong-type", message, root.line, root.column, hint)
        shaper = Shaper(self.at_node)
        data = shaper.data(root, WorkflowSpec)
        spec, findings = validated(data)
        self.found((finding for finding in findings if finding.at not in shaper.guessed), shaper.places)
        if spec is None:
            return None
        refused = [finding.at for finding in findings]
        lost = frozenset([*refused, *shaper.lost, *([()] if twice else [])])
        checked = check(spec, Doubts(lost, invented_ids(spec, data)))
        self.found((found for found in checked if not _depends(found.at, refused)), shaper.places)
        name = _node_at(("name",), shaper.places)
        return spec.read_from(Path(self.source).name, self.text, (name.line + 1, name.column + 1))

    def broken(self, error: LoadError) -> None:
        """Add what the loader found."""
        self._add(error.line, error.column, error.code, error.message, error.hint)

    def at_node(self, node: Node, code: str, message: str, hint: str = "", severity: Severity = Severity.ERROR) -> None:
        """Add a problem of a node."""
        self._add(node.line, node.column, code, message, hint, severity)

    def found(self, findings: Iterable[Finding], places: dict[Location, Node]) -> None:
        """Add findings of the model."""
        for finding in findings:
            node = _node_at(finding.at, places)
            line, column = node.line, node.column
            if finding.offset:
                line, column = (number - 1 for number in place_within(self.text, node, finding.offset))
            elif finding.code == "bad-condition":
                line, column = (number - 1 for number in place_within(self.text, node, 0))
            self._add(line, column, finding.code, finding.message, finding.hint, finding.severity)

    def _add(
        self, line: int, column: int, code: str, message: str, hint: str = "", severity: Severity = Severity.ERROR
    ) -> None:
        if len(self.problems) == MAX_PROBLEMS:
            code, severity, hint = "too-many-problems", Severity.ERROR, "mend these first"
            message = f"there are more than {MAX_PROBLEMS} problems; the others are not shown"
        line = min(line, max(len(self.lines) - 1, 0))
        excerpt = self.lines[line] if self.lines else ""
        self.problems.append(Problem(self.source, line + 1, column + 1, code, message, hint, severity, excerpt))
        if len(self.problems) > MAX_PROBLEMS:
            raise _TooMany


def _node_at(at: Location, places: dict[Location, Node]) -> Node:
    """The node of a place, or of the nearest one around it that the file holds."""
    while at not in places and at:
        at = at[:-1]
    return places[at]


def _depends(at: Location, refused: list[Location]) -> bool:
    """Whether a finding is about a value that was refused before, and stands here only by a substitute.

    What is wrong with a task depends on its type, too.
    """
    bases = (place[:2] if place[2:] == ("type",) else place for place in refused if place)
    return any(at[: len(base)] == base for base in bases)
