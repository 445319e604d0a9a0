"""A workflow file to a spec, or to the list of everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from airflow_monai.errors import SpecError
from airflow_monai.specs.checks.workflow import check
from airflow_monai.specs.defaults.lookup import Defaults, defaults_above, parsed
from airflow_monai.specs.defaults.merging import filled
from airflow_monai.specs.doubts import Doubts, invented_ids
from airflow_monai.specs.findings import Location
from airflow_monai.specs.model import WorkflowSpec
from airflow_monai.specs.problems import Problem, errors_of, in_order
from airflow_monai.specs.reporting import Reporter, TooMany, node_at
from airflow_monai.specs.site import Site
from airflow_monai.specs.spelling import spell_arguments
from airflow_monai.specs.tree.loader import MAX_BYTES, LoadError, compose, decode
from airflow_monai.specs.tree.nodes import Node, Shape
from airflow_monai.specs.tree.shaping import Shaper
from airflow_monai.specs.validation import validated


def load_workflow(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> WorkflowSpec:
    """The workflow of a YAML or JSON file, with the defaults of its folder and of those above it.

    :param root: as for :func:`check_file`.
    :raises SpecError: with all its problems, when it cannot be read or holds an error.
    """
    spec, problems = check_file(path, root)
    return _spec_or_raise(spec, problems, str(path))


def load_text(text: str | bytes, source: str, defaults: Sequence[Defaults] = ()) -> WorkflowSpec:
    """The workflow of a text.

    :param source: name of the file it is from, for messages.
    :param defaults: what it takes where it does not say it, the nearest first.
    :raises SpecError: with all its problems, when it cannot be read or holds an error.
    """
    spec, problems = check_text(text, source, defaults)
    return _spec_or_raise(spec, problems, source)


def _spec_or_raise(spec: WorkflowSpec | None, problems: list[Problem], source: str) -> WorkflowSpec:
    if spec is not None:
        return spec
    errors = errors_of(problems)
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    text = "\n".join(str(problem) for problem in errors)
    raise SpecError(f"The workflow file {source} cannot be used, it has {count}:\n{text}", problems=tuple(problems))


def check_file(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> tuple[WorkflowSpec | None, list[Problem]]:
    """The workflow of a file, or None, and all problems of the file, and of its defaults, in the order of their lines.

    :param root: no defaults are looked for above this folder; without it they are looked for in the file's own folder
        and, as long as there are some, in the next one above.
    """
    path = Path(path)
    return check_with(path, defaults_above(path, Path(root) if root else None))


def check_with(
    path: Path, defaults: Sequence[Defaults], site: Site | None = None
) -> tuple[WorkflowSpec | None, list[Problem]]:
    """As :func:`check_file`, for a caller that knows the defaults, and may know the site."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return None, [Problem(str(path), 1, 1, "unreadable", f"the file cannot be read: {reason}", "check the path")]
    return check_text(data, str(path), defaults, site)


def check_text(
    text: str | bytes, source: str, defaults: Sequence[Defaults] = (), site: Site | None = None
) -> tuple[WorkflowSpec | None, list[Problem]]:
    """The workflow of a text, or None, and all problems of the text and of its defaults, in the order of their lines.

    :param defaults: what it takes where it does not say it, the nearest first.
    :param site: what it is checked against, too, when it has no error.
    """
    reader = _Reader(source, defaults, site)
    try:
        spec = reader.read(text)
    except LoadError as error:
        reader.reporter.broken(error)
        spec = None
    except TooMany:
        spec = None
    problems = in_order(reader.problems())
    return (None if errors_of(problems) else spec), problems


class _Reader:
    """One reading of one text."""

    def __init__(self, source: str, defaults: Sequence[Defaults], site: Site | None):
        self.site = site
        self.reporter = Reporter(source)
        self.defaults = defaults
        self.layers = [parsed(one) for one in defaults]

    def problems(self) -> list[Problem]:
        """Those of the defaults, and the others; a value of a defaults file that is wrong by itself is told once."""
        found = [problem for layer in self.layers for problem in layer.problems]
        known = {problem.place for problem in found}
        return found + [problem for problem in self.reporter.problems if problem.place not in known]

    def read(self, text: str | bytes) -> WorkflowSpec | None:
        """The spec, also where it has problems; None where there is none.

        :raises LoadError: when the text is no YAML or JSON that may be read.
        """
        text = decode(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
        self.reporter.begin(text)
        source = self.reporter.origin.source
        root, twice = compose(text, is_json=source.lower().endswith(".json"))
        for error in twice:
            self.reporter.broken(error)
        if root.shape is not Shape.MAPPING:
            hint = "begin with name: ..., version: ..., informatics_gateway: ..., tasks: ..."
            message = f"a workflow is a mapping, not {root.shape.value}"
            raise LoadError("wrong-type", message, root.line, root.column, hint)
        if wrapped := next((key for key, _ in root.entries if key.text == "workflow"), None):
            message = "the workflow stands within a field 'workflow', as a server of workflows answers it"
            raise LoadError("wrong-type", message, wrapped.line, wrapped.column, "put what is in it in its place")
        layers = [layer.root for layer in self.layers if layer.root is not None]
        if len(layers) < len(self.layers):
            return None  # what lacks may be in the defaults that cannot be read
        spec, places = self._checked(filled(root, layers), bool(twice))
        if spec is None:
            return None
        name = node_at(("name",), places)
        return spec.read_from(Path(source).name, text, (name.line + 1, name.column + 1), self.defaults)

    def _checked(self, root: Node, twice: bool) -> tuple[WorkflowSpec | None, dict[Location, Node]]:
        shaper = Shaper(self.reporter.at_node)
        data = shaper.data(root, WorkflowSpec)
        self.reporter.found(spell_arguments(data, shaper.places), shaper.places)
        spec, findings = validated(data)
        self.reporter.found((finding for finding in findings if finding.at not in shaper.guessed), shaper.places)
        if spec is not None:
            refused = [finding.at for finding in findings]
            lost = frozenset([*refused, *shaper.lost, *([()] if twice else [])])
            checked = check(spec, Doubts(lost, invented_ids(spec, data)))
            self.reporter.found((found for found in checked if not _depends(found.at, refused)), shaper.places)
            if self.site is not None and not errors_of(self.reporter.problems):
                from airflow_monai.specs.checks.site import check_site

                self.reporter.found(check_site(spec, self.site), shaper.places)
        return spec, shaper.places


def _depends(at: Location, refused: list[Location]) -> bool:
    """Whether a finding is about a value that was refused before, and stands here only by a substitute.

    What is wrong with a task depends on its type, too.
    """
    bases = (place[:2] if place[2:] == ("type",) else place for place in refused if place)
    return any(at[: len(base)] == base for base in bases)
