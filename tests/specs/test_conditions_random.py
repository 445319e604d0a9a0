"""Random conditions against a second, plain evaluator that knows the documented rules only."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_monai.specs.conditions.parser import ConditionError, SeriesValues, evaluate, parse
from airflow_monai.specs.edges import judge_edge

SCALARS = ["CT", "ct ", "MR", "5", "5.0", "-1.5", "1e3", "abc", "it is (a) text", " AND ", "[x", None]
VALUES: dict[str, Any] = {
    "text": "CT",
    "padded": " mr ",
    "number": 5,
    "ratio": 1.6,
    "yes": True,
    "nothing": None,
    "blank": "  ",
    "list": ["CT", "5", None],
    "listed": "['MR', \"abc\"]",
    "any": SeriesValues(("CT", "5", None), "any"),
    "all": SeriesValues(("5", "5.0"), "all"),
    "none": SeriesValues((), "any"),
}
PLAIN = {
    "text": "CT",
    "padded": " mr ",
    "number": "5",
    "ratio": "1.6",
    "yes": "True",
    "nothing": None,
    "blank": None,
    "list": ("CT", "5", None),
    "listed": ("MR", "abc"),
    "any": ("any", ["CT", "5", None]),
    "all": ("all", ["5", "5.0"]),
    "none": ("any", []),
}
"""What each of the values is to the second evaluator: text, None, a tuple for an array, or quantifier and values."""
ORDERS = {"<": lambda a, b: a < b, ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b}

scalars = st.sampled_from(SCALARS).map(lambda text: ("text", text))
templates = st.sampled_from(sorted(VALUES)).map(lambda name: ("template", name))
elements = st.lists(st.sampled_from(["CT", "5", "abc", None]), min_size=1, max_size=3)
arrays = elements.map(lambda items: ("array", tuple(items)))
operators = st.sampled_from(["==", "!=", "<", ">", "<=", ">=", "CONTAINS", "NOT_CONTAINS"])
comparisons = st.tuples(st.just("compare"), scalars | templates | arrays, operators, scalars | templates | arrays)
trees = st.recursive(
    comparisons,
    lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), st.lists(inner, min_size=2, max_size=3)),
    max_leaves=8,
)


def written(tree: Any, within: str = "") -> str:
    """The tree as a person writes it, with brackets only where AND before OR would read it otherwise."""
    if tree[0] == "compare":
        return f"{operand_text(tree[1])} {tree[2]} {operand_text(tree[3])}"
    text = f" {tree[0]} ".join(written(part, tree[0]) for part in tree[1])
    return f"({text})" if within == "AND" and tree[0] == "OR" else text


def operand_text(operand: Any) -> str:
    kind, value = operand
    if kind == "template":
        return f"{{{{ {value} }}}}"
    if kind == "array":
        return "[" + ", ".join("NULL" if item is None else f"'{item}'" for item in value) + "]"
    return "NULL" if value is None else f"'{value}'"


class Undecided(Exception):
    """A comparison that cannot be made."""


def truth(tree: Any) -> bool:
    """Left to right; the right side counts only where the left one does not decide."""
    if tree[0] == "AND":
        return all(truth(part) for part in tree[1])
    if tree[0] == "OR":
        return any(truth(part) for part in tree[1])
    return over_series(value_of(tree[1]), tree[2], value_of(tree[3]))


def value_of(operand: Any) -> Any:
    return PLAIN[operand[1]] if operand[0] == "template" else operand[1]


def is_series(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], list)


def over_series(left: Any, operator: str, right: Any) -> bool:
    for side, other in ((left, "right"), (right, "left")):
        if not is_series(side):
            continue
        quantifier, values = side
        answers: list[bool] = []
        undecided = False
        for value in values:
            try:
                pair = (value, right) if other == "right" else (left, value)
                answers.append(over_series(pair[0], operator, pair[1]))
            except Undecided:
                undecided = True
        if quantifier == "any" and True in answers:
            return True
        if quantifier == "all" and False in answers:
            return False
        if undecided and (quantifier == "all" or not answers):
            raise Undecided
        return quantifier == "all" and bool(answers)
    return compare(left, operator, right)


def compare(left: Any, operator: str, right: Any) -> bool:
    if operator in ORDERS:
        return ORDERS[operator](number(left), number(right))
    if operator in ("==", "!="):
        return same(left, right) is (operator == "==")
    return contains(left, right) is (operator == "CONTAINS")


def number(value: Any) -> Decimal:
    try:
        return Decimal(value.strip())
    except (ArithmeticError, AttributeError):
        raise Undecided from None


def same(left: Any, right: Any) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, str) and isinstance(right, str):
        return left.strip().lower() == right.strip().lower()
    return left is None and right is None


def contains(left: Any, right: Any) -> bool:
    def stripped(items: Any) -> set[Any]:
        return {item and item.strip() for item in items}

    if isinstance(left, tuple):
        return bool(stripped(left) & stripped(right if isinstance(right, tuple) else (right,)))
    listed = right if isinstance(right, tuple) else [part.strip(" '\"") or None for part in (right or "").split(",")]
    return bool(stripped((left,)) & stripped(listed))


def hopeless(tree: Any) -> bool:
    """Whether it orders two texts that are no numbers, which is refused before anything is evaluated."""
    if tree[0] != "compare":
        return any(map(hopeless, tree[1]))
    sides = (tree[1], tree[3])
    if tree[2] not in ORDERS or any(kind != "text" for kind, _ in sides):
        return False
    return not any(is_number(value) for _, value in sides)


def is_number(value: Any) -> bool:
    try:
        return bool(number(value)) or True
    except Undecided:
        return False


@settings(max_examples=400, deadline=None)
@given(trees)
@example(("compare", ("template", "any"), ">", ("text", "4")))
@example(("compare", ("template", "all"), "==", ("text", "5")))
@example(("AND", [("compare", ("text", "CT"), "==", ("text", "MR")), ("compare", ("text", "CT"), "<", ("text", "5"))]))
def test_a_condition_means_what_the_rules_say(tree: Any):
    text = written(tree)
    if hopeless(tree):
        with pytest.raises(ConditionError):
            parse(text)
        return
    try:
        expected = truth(tree)
    except Undecided:
        with pytest.raises(ConditionError):
            evaluate(text, VALUES.get)
        return
    assert evaluate(text, VALUES.get) is expected


@settings(max_examples=200, deadline=None)
@given(trees, st.data())
def test_a_damaged_condition_is_a_condition_or_an_error_with_its_column(tree: Any, data: Any):
    text = written(tree)
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 5))
    put = data.draw(st.text(alphabet="'\"{}[]()<>=!&|,. \n\0ANDOR\u2018\u202e\U0001f600", max_size=4))
    damaged = text[:at] + put + text[at + cut :]
    try:
        assert evaluate(damaged, VALUES.get) in (True, False)
    except ConditionError as error:
        assert 1 <= error.column <= len(damaged) + 1


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80))
def test_a_way_is_never_taken_by_an_error(text: str):
    verdict = judge_edge([text], VALUES.get)
    assert verdict.taken in (True, False)
    if text.strip() and "cannot be evaluated" in verdict.reason:
        assert not verdict.taken
