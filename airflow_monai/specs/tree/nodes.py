"""The tree of a workflow file: every value as it was written, with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,2})?")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Shape(Enum):
    """Form of a node."""

    MAPPING = "a mapping"
    LIST = "a list"
    SCALAR = "a single value"


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A file that values are from: its name for messages, and its text."""

    source: str
    text: str

    def line(self, number: int) -> str:
        """A line, counted from 0."""
        lines = lines_of(self.text)
        return lines[number] if number < len(lines) else ""


@lru_cache(maxsize=2)
def lines_of(text: str) -> list[str]:
    """The lines of a text, split once for all problems of a file."""
    return text.split("\n")


_NOTHING: Any = ()  # shared by all nodes that hold none: most are single values


@dataclass(slots=True)
class Node:
    """One value of a file.

    :param line: and ``column`` count from 0, ``start`` and ``end`` are offsets in the text.
    :param text: of a scalar, as written: ``1.0`` stays ``1.0``.
    :param style: of a scalar: empty for plain, else its quote, ``|`` or ``>``.
    :param size: nodes in it, those behind aliases counted each time; ``height``: levels in it; ``length``: characters
        of its texts, counted like the nodes.
    :param origin: the file it is from, where that is not the one being read.
    """

    shape: Shape
    line: int
    column: int
    start: int
    end: int = 0
    text: str = ""
    style: str = ""
    items: list[Node] = _NOTHING
    entries: list[tuple[Node, Node]] = _NOTHING
    size: int = 1
    height: int = 1
    length: int = 0
    origin: Origin | None = None

    @property
    def is_null(self) -> bool:
        return self.shape is Shape.SCALAR and not self.style and self.text in _NULLS

    def plain(self) -> Any:
        """The value as plain data whose leaves are text or None; entries that are null are left out."""
        if self.shape is Shape.SCALAR:
            return None if self.is_null else self.text
        if self.shape is Shape.LIST:
            return [item.plain() for item in self.items]
        return {key.text: value.plain() for key, value in self.entries if not value.is_null}

    def typed(self) -> Any:
        """The value with numbers and truth values as YAML's core schema has them (a quoted one is a text)."""
        if self.shape is Shape.LIST:
            return [item.typed() for item in self.items]
        if self.shape is Shape.MAPPING:
            return {key.text: value.typed() for key, value in self.entries}
        return None if self.is_null else self.text if self.style else _core_value(self.text)


def _core_value(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema (section 10.3.2), without its octal, infinite and odd numbers."""
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def place_within(source: str, node: Node, index: int) -> tuple[int, int]:
    """Line and column (from 1) in the file of a character of a scalar's text."""
    if node.style in ("|", ">"):
        return _place_in_block(source, node, index)
    if node.style == "'":
        return _place_by_steps(source, node, index, lambda at: 2 if source.startswith("''", at) else 1)
    if node.style == '"':
        return _place_by_steps(source, node, index, lambda at: _escape_length(source, at))
    if "\n" in source[node.start : node.end]:
        return node.line + 1, node.column + 1
    return node.line + 1, node.column + 1 + index


def _place_by_steps(source: str, node: Node, index: int, step: Any) -> tuple[int, int]:
    at = node.start + 1
    if "\n" in source[node.start : node.end]:
        return node.line + 1, node.column + 1
    for _ in range(index):
        at += step(at)
    return node.line + 1, node.column + 1 + min(at, max(node.end - 1, node.start)) - node.start


def _escape_length(source: str, at: int) -> int:
    if source[at : at + 1] != "\\":
        return 1
    return {"x": 4, "u": 6, "U": 10}.get(source[at + 1 : at + 2], 2)


def _place_in_block(source: str, node: Node, index: int) -> tuple[int, int]:
    """In a block scalar each source line gives its text without the indent and one line end or blank."""
    lines = source[node.start : node.end].split("\n")[1:]
    indent = next((len(line) - len(line.lstrip(" ")) for line in lines if line.strip()), 0)
    for number, line in enumerate(lines):
        length = max(0, len(line) - indent)
        if index <= length:
            return node.line + 2 + number, indent + 1 + index
        index -= length + 1
    return node.line + 1, node.column + 1
