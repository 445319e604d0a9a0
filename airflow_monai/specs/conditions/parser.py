"""The condition language of the MONAI Deploy workflow definition, with the usual precedence.

``left OPERATOR right`` joined by AND and OR; AND binds tighter than OR, round brackets count. Operands are ``'text'``,
``NULL``, ``[a, b]`` and ``{{ path }}``. ``==`` and ``!=`` compare text without regard to case, ``>`` ``<`` ``>=``
``<=`` compare decimal numbers, ``CONTAINS`` and ``NOT_CONTAINS`` look for a value in an array, with regard to case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions.ast import And, Comparison, Node, OperandNode, Operator, Or, Text, templates
from airflow_monai.specs.conditions.evaluation import holds
from airflow_monai.specs.conditions.lexer import Kind, Token, tokens
from airflow_monai.specs.conditions.values import SeriesValues, decimal_of

__all__ = ["ConditionError", "Node", "SeriesValues", "evaluate", "evaluate_all", "parse", "paths"]

MAX_DEPTH = 50


@lru_cache(maxsize=2048)
def parse(text: str) -> Node:
    """The condition as a tree.

    :raises ConditionError: with the column, when the text is not a condition.
    """
    return _Parser(tokens(text)).condition()


def evaluate(text: str, resolve: Callable[[str], Any]) -> bool:
    """Whether a condition holds.

    :param resolve: gets the text between the braces, trimmed; answers text, bool, number, list, ``SeriesValues`` or
        None for NULL. Text that begins with ``[`` and ends with ``]`` is an array.
    :raises ConditionError: when the text is not a condition, or a comparison in it cannot be made.
    """
    return holds(parse(text), resolve)


def evaluate_all(texts: Iterable[str], resolve: Callable[[str], Any]) -> bool:
    """Whether every condition holds; blank ones are passed over.

    :raises ConditionError: as ``evaluate``.
    """
    return all(evaluate(text, resolve) for text in texts if text.strip())


def paths(node: Node) -> list[str]:
    """The paths that a condition asks for, in the order of its text, each once."""
    return list(dict.fromkeys(template.path for template in templates(node)))


class _Parser:
    """Recursive descent over the tokens; ``depth`` bounds the brackets."""

    def __init__(self, found: list[Token]):
        self.tokens = found
        self.at = 0
        self.depth = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.next
        self.at += 1
        return token

    def condition(self) -> Node:
        if self.next.kind is Kind.END:
            raise ConditionError("the condition is empty", column=1)
        node = self.any_of()
        if self.next.kind is Kind.CLOSE:
            raise ConditionError("')' without its '('", column=self.next.column)
        if self.next.kind is not Kind.END:
            raise ConditionError(f"AND or OR is missing before {_shown(self.next)}", column=self.next.column)
        return node

    def any_of(self) -> Node:
        parts = self.chain(Kind.OR, self.all_of)
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all_of(self) -> Node:
        parts = self.chain(Kind.AND, self.primary)
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def chain(self, joined_by: Kind, part: Callable[[], Node]) -> list[Node]:
        parts = [part()]
        while self.next.kind is joined_by:
            self.take()
            parts.append(part())
        return parts

    def primary(self) -> Node:
        if self.next.kind is Kind.OPEN:
            return self.bracket()
        return self.comparison()

    def bracket(self) -> Node:
        opening = self.take()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConditionError(f"brackets are nested deeper than {MAX_DEPTH}", column=opening.column)
        node = self.any_of()
        if self.next.kind is not Kind.CLOSE:
            problem = "the bracket that opens here is not closed" if self.next.kind is Kind.END else ""
            expected = problem or f"')' or AND or OR is missing before {_shown(self.next)}"
            raise ConditionError(expected, column=opening.column if problem else self.next.column)
        self.take()
        self.depth -= 1
        return node

    def comparison(self) -> Comparison:
        left = self.operand(None)
        token = self.take()
        if token.operator is None:
            raise ConditionError(
                f"a comparison (==, !=, <, >, CONTAINS, ...) is missing before {_shown(token)}", column=token.column
            )
        right = self.operand(token)
        _check_numbers(left, token.operator, right, token.column)
        return Comparison(left, token.operator, right, token.column)

    def operand(self, after: Token | None) -> OperandNode:
        token = self.take()
        if token.operand is not None:
            return token.operand
        if after is not None:
            raise ConditionError(f"nothing to compare with on the right of {after.text}", column=token.column)
        if token.kind is Kind.END:
            raise ConditionError(f"nothing on the right of {self.tokens[self.at - 2].text}", column=token.column)
        raise ConditionError(f"nothing on the left of {token.text}", column=token.column)


def _check_numbers(left: OperandNode, operator: Operator, right: OperandNode, column: int) -> None:
    """An order of two texts of which neither is a number can never be decided."""
    if not operator.orders or not isinstance(left, Text) or not isinstance(right, Text):
        return
    if decimal_of(left.value) is None and decimal_of(right.value) is None:
        raise ConditionError(f"{operator.value} compares numbers, and neither side is one", column=column)


def _shown(token: Token) -> str:
    text = token.text if len(token.text) <= 40 else token.text[:40] + "..."
    return text if token.kind is Kind.END else f"{text!r}"
