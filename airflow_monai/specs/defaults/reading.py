"""The text of a defaults file to a tree of nodes that know the file, and to all its problems."""

from __future__ import annotations

from airflow_monai.specs.defaults.model import DefaultsSpec, check_defaults
from airflow_monai.specs.defaults.text import ParsedDefaults
from airflow_monai.specs.problems import in_order
from airflow_monai.specs.reporting import Reporter, TooMany
from airflow_monai.specs.tree.loader import LoadError, compose
from airflow_monai.specs.tree.nodes import Node, Origin, Shape
from airflow_monai.specs.tree.shaping import Shaper
from airflow_monai.specs.validation import findings_of


def read_defaults(text: str, source: str) -> ParsedDefaults:
    """What a text says; values that are wrong are in the tree, too, so that a workflow's other problems show."""
    reporter = Reporter(source)
    reporter.begin(text)
    root = None
    try:
        root = _read(text, reporter)
    except LoadError as error:
        if error.code == "empty-file":  # all of it is commented out
            return ParsedDefaults(Node(Shape.MAPPING, 0, 0, 0, origin=reporter.origin), ())
        reporter.broken(error)
    except TooMany:
        root = None
    return ParsedDefaults(root, tuple(in_order(reporter.problems)))


def _read(text: str, reporter: Reporter) -> Node:
    root, twice = compose(text, is_json=reporter.origin.source.lower().endswith(".json"))
    for error in twice:
        reporter.broken(error)
    if root.shape is not Shape.MAPPING:
        hint = "begin with informatics_gateway: ..., tasks: ... or task_types: ..."
        raise LoadError("wrong-type", f"defaults are a mapping, not {root.shape.value}", root.line, root.column, hint)
    _mark(root, reporter.origin)
    shaper = Shaper(reporter.at_node)
    data = shaper.data(root, DefaultsSpec)
    spec, findings = findings_of(data, DefaultsSpec)
    reporter.found((finding for finding in findings if finding.at not in shaper.guessed), shaper.places)
    if spec is not None:
        reporter.found(check_defaults(spec), shaper.places)
    return root


def _mark(root: Node, origin: Origin) -> None:
    """Let every node know its file; those behind aliases are met more than once."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.origin is None:
            node.origin = origin
            waiting += [*node.items, *(part for entry in node.entries for part in entry)]
