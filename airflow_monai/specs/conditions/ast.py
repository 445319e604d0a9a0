"""The parts of a parsed condition: plain frozen data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Operator(str, Enum):
    """Comparison of two operands."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"
    GREATER_EQUAL = ">="
    LESS_EQUAL = "<="
    CONTAINS = "CONTAINS"
    NOT_CONTAINS = "NOT_CONTAINS"

    @property
    def orders(self) -> bool:
        """Whether it compares numbers."""
        return self.value[0] in "<>"


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted text, or NULL when ``value`` is None."""

    value: str | None
    column: int


@dataclass(frozen=True, slots=True)
class Template:
    """``{{ path }}``: a value that is known only when the condition is evaluated."""

    path: str
    column: int


@dataclass(frozen=True, slots=True)
class ArrayLiteral:
    """``[a, b]``."""

    items: tuple[Text | Template, ...]
    column: int


OperandNode = Text | Template | ArrayLiteral


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left operator right``."""

    left: OperandNode
    operator: Operator
    right: OperandNode
    column: int


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One part holds."""

    parts: tuple[Node, ...]


Node = Comparison | And | Or


def comparisons(node: Node) -> Iterator[Comparison]:
    """Every comparison of a condition, in the order of its text."""
    if isinstance(node, Comparison):
        yield node
        return
    for part in node.parts:
        yield from comparisons(part)


def templates(node: Node) -> Iterator[Template]:
    """Every template of a condition, in the order of its text."""
    for comparison in comparisons(node):
        for side in (comparison.left, comparison.right):
            for item in side.items if isinstance(side, ArrayLiteral) else (side,):
                if isinstance(item, Template):
                    yield item
