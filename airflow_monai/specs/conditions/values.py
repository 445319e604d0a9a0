"""What a condition compares: text, NULL, arrays, and the values of a tag over the series of a study."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

Scalar = str | None
Array = tuple[Scalar, ...]
Operand = Scalar | Array

_NULL_WORDS = frozenset({"", "null", "undefined"})
# The published samples write array elements with either quote, some with typographic ones.
_ELEMENT_TRIM = " \t\r\n\"'\u2018\u2019\u201c\u201d\ufffd"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_MAX_NUMBER_TEXT = 200


class Quantifier(str, Enum):
    """How a comparison with the values of all series is decided."""

    ANY = "any"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class SeriesValues:
    """Values of one DICOM attribute over the series of a study; None stands for a series that lacks it.

    A comparison with ``any`` holds when it holds for one of the values, with ``all`` when it holds for every one of
    them and there is at least one.

    :param values: text, numbers, lists (multi-valued elements) or None.
    :param quantifier: ``Quantifier`` or its text, ``any`` or ``all``.
    """

    values: tuple[Any, ...]
    quantifier: Quantifier

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "quantifier", Quantifier(self.quantifier))


def is_null(text: str) -> bool:
    """Blank, ``null`` and ``undefined`` (any case) all mean NULL."""
    return text.strip().lower() in _NULL_WORDS


def scalar(text: str) -> Scalar:
    """The text as an operand: None when it means NULL."""
    return None if is_null(text) else text


def element(text: str) -> Scalar:
    """One element of an array as written between its commas: without blanks and quotes."""
    return scalar(text.strip(_ELEMENT_TRIM))


def split_elements(text: str) -> Array:
    """Elements of the inside of an array, or of a text used as one; nothing at all is one NULL element."""
    return tuple(element(part) for part in text.split(","))


def number_text(value: int | float | Decimal) -> str:
    """A number as the language writes it: 2.0 is ``2``, 1.60 is ``1.6``, never with an exponent."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        return str(value)
    text = format(number, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def decimal_of(text: Scalar) -> Decimal | None:
    """The number that a text spells with a decimal point, or None."""
    stripped = (text or "").strip()
    if len(stripped) > _MAX_NUMBER_TEXT or not _NUMBER.fullmatch(stripped):
        return None
    return Decimal(stripped)


def operand(answer: Any) -> Operand:
    """An operand from what a resolver answered.

    :raises TypeError: for anything but text, bool, number, date, list and None.
    """
    if isinstance(answer, Enum):
        answer = answer.value
    if answer is None:
        return None
    if isinstance(answer, str):
        stripped = answer.strip()
        if stripped.startswith("[") and stripped.endswith("]") and len(stripped) > 1:
            return split_elements(stripped[1:-1])
        return scalar(answer)
    if isinstance(answer, (list, tuple)):
        return tuple(_list_element(item) for item in answer) or (None,)
    return _plain(answer)


def _plain(answer: Any) -> Scalar:
    if isinstance(answer, bool):
        return "True" if answer else "False"
    if isinstance(answer, (int, float, Decimal)):
        return number_text(answer)
    if isinstance(answer, datetime):
        return answer.strftime("%Y-%m-%dT%H:%M:%S")
    if isinstance(answer, date):
        return answer.isoformat()
    raise TypeError(f"{type(answer).__name__} is neither text nor a number nor a list")


def _list_element(item: Any) -> Scalar:
    if isinstance(item, Enum):
        item = item.value
    if item is None:
        return None
    return scalar(item) if isinstance(item, str) else _plain(item)
