"""Evaluation of a parsed condition over a resolver. No text of a condition is ever run as code."""

from __future__ import annotations

import operator as op
from collections.abc import Callable
from typing import Any

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions.ast import And, ArrayLiteral, Comparison, Node, OperandNode, Operator, Or, Template
from airflow_monai.specs.conditions.values import (
    Array,
    Operand,
    Quantifier,
    Scalar,
    SeriesValues,
    decimal_of,
    operand,
    split_elements,
)

Resolve = Callable[[str], Any]
Resolved = Operand | SeriesValues

_ORDER = {
    Operator.GREATER: op.gt,
    Operator.LESS: op.lt,
    Operator.GREATER_EQUAL: op.ge,
    Operator.LESS_EQUAL: op.le,
}


def holds(node: Node, resolve: Resolve) -> bool:
    """Whether a condition holds; the right side of AND and OR is looked at only when it decides.

    :raises ConditionError: when a comparison cannot be made (an order of what is not a number).
    """
    if isinstance(node, And):
        return all(holds(part, resolve) for part in node.parts)
    if isinstance(node, Or):
        return any(holds(part, resolve) for part in node.parts)
    return _quantified(node, _value(node.left, resolve), _value(node.right, resolve))


def _value(node: OperandNode, resolve: Resolve) -> Resolved:
    if isinstance(node, Template):
        return _ask(node, resolve)
    if isinstance(node, ArrayLiteral):
        return _elements(node, resolve)
    return node.value


def _ask(node: Template, resolve: Resolve) -> Resolved:
    try:
        answer = resolve(node.path)
        return answer if isinstance(answer, SeriesValues) else operand(answer)
    except LookupError as error:
        raise ConditionError(f"{{{{ {node.path} }}}} has no value", column=node.column) from error
    except (TypeError, ValueError, ArithmeticError) as error:
        message = f"{{{{ {node.path} }}}} has a value that cannot be compared"
        raise ConditionError(message, column=node.column) from error


def _elements(node: ArrayLiteral, resolve: Resolve) -> Array:
    found: list[Scalar] = []
    for item in node.items:
        value = _value(item, resolve)
        if isinstance(value, SeriesValues):
            raise ConditionError("values of series cannot be an element of an array", column=item.column)
        found.extend(value if isinstance(value, tuple) else (value,))
    return tuple(found)


def _quantified(node: Comparison, left: Resolved, right: Resolved) -> bool:
    if isinstance(left, SeriesValues):
        return _over(node, left, lambda value: _quantified(node, value, right))
    if isinstance(right, SeriesValues):
        return _over(node, right, lambda value: _compare(node, left, value))
    return _compare(node, left, right)


def _over(node: Comparison, series: SeriesValues, test: Callable[[Operand], bool]) -> bool:
    """Decide over all values: one that cannot be compared is an error only where no other value decides."""
    wanted = series.quantifier is Quantifier.ANY
    failed: ConditionError | None = None
    compared = False
    for value in series.values:
        try:
            if test(operand(value)) is wanted:
                return wanted
            compared = True
        except ConditionError as error:
            failed = error
        except (TypeError, ValueError, ArithmeticError) as error:
            failed = ConditionError("a value of a series cannot be compared", column=node.column)
            failed.__cause__ = error
    if failed and not (wanted and compared):
        raise failed
    return not wanted and compared


def _compare(node: Comparison, left: Operand, right: Operand) -> bool:
    operator = node.operator
    if operator.orders:
        return _ordered(node, left, right)
    if operator in (Operator.CONTAINS, Operator.NOT_CONTAINS):
        return _contains(left, right) is (operator is Operator.CONTAINS)
    return _equal(left, right) is (operator is Operator.EQUAL)


def _equal(left: Operand, right: Operand) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, str) and isinstance(right, str):
        return left.strip().lower() == right.strip().lower()
    return left is None and right is None


def _ordered(node: Comparison, left: Operand, right: Operand) -> bool:
    numbers = [None if isinstance(side, tuple) else decimal_of(side) for side in (left, right)]
    if numbers[0] is None or numbers[1] is None:
        side = "left" if numbers[0] is None else "right"
        raise ConditionError(f"the {side} side of {node.operator.value} is not a number", column=node.column)
    return bool(_ORDER[node.operator](numbers[0], numbers[1]))


def _contains(left: Operand, right: Operand) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return bool({_trim(item) for item in left} & {_trim(item) for item in right})
    if isinstance(left, tuple):
        return _trim(right) in map(_trim, left)  # type: ignore[arg-type]
    elements = right if isinstance(right, tuple) else split_elements(right or "")
    return _trim(left) in map(_trim, elements)


def _trim(text: Scalar) -> Scalar:
    return text if text is None else text.strip()
