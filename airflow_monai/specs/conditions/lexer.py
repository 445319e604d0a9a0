"""Text of a condition to tokens. Everything it refuses, it refuses with the column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions.ast import ArrayLiteral, OperandNode, Operator, Template, Text
from airflow_monai.specs.conditions.values import element, is_null, scalar

MAX_LENGTH = 10_000
MAX_PATH = 500


class Kind(Enum):
    """What a token is."""

    OPERAND = auto()
    OPERATOR = auto()
    AND = auto()
    OR = auto()
    OPEN = auto()
    CLOSE = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One token; ``operand`` and ``operator`` are set for their kinds."""

    kind: Kind
    text: str
    column: int
    operand: OperandNode | None = None
    operator: Operator | None = None


_SYMBOL = re.compile(r"==|!=|>=|=>|<=|=<|>|<")
_WORD = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"[+-]?\.?\d[\w.]*")
_SPELLINGS = {"=>": ">=", "=<": "<="}
_LOGIC = {"AND": Kind.AND, "And": Kind.AND, "and": Kind.AND, "OR": Kind.OR, "Or": Kind.OR, "or": Kind.OR}
_FOREIGN = {
    "&&": "'&&' is not part of the language: write AND",
    "||": "'||' is not part of the language: write OR",
    "!": "'!' is not part of the language: turn the comparison round (!=, NOT_CONTAINS)",
    "=": "'=' is not an operator: write ==",
    '"': "text stands in single quotes: 'text'; double quotes may be used only within [ ]",
    **dict.fromkeys("\u2018\u2019\u201c\u201d", "text stands in straight single quotes: 'text'"),
    "]": "']' without its '['",
    "}": "'}' without its '{{'",
    "{": "a template is written {{ path }}",
}


def tokens(text: str) -> list[Token]:
    """The tokens of a condition, the last one of kind END.

    :raises ConditionError: for anything that is not part of the language.
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"the condition has {len(text)} characters; {MAX_LENGTH} are allowed", column=MAX_LENGTH)
    found: list[Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token, at = _next(text, at)
        found.append(token)
    found.append(Token(Kind.END, "the end", len(text) + 1))
    return found


def _next(text: str, at: int) -> tuple[Token, int]:
    char = text[at]
    if char == "'":
        return _quoted(text, at)
    if text.startswith("{{", at):
        path, end = _path(text, at)
        return Token(Kind.OPERAND, text[at:end], at + 1, Template(path, at + 1)), end
    if char == "[":
        return _array(text, at)
    if char in "()":
        return Token(Kind.OPEN if char == "(" else Kind.CLOSE, char, at + 1), at + 1
    symbol = _SYMBOL.match(text, at)
    if symbol:
        operator = Operator(_SPELLINGS.get(symbol[0], symbol[0]))
        return Token(Kind.OPERATOR, symbol[0], at + 1, operator=operator), symbol.end()
    word = _WORD.match(text, at)
    if word:
        return _word(text, at, word[0]), word.end()
    raise ConditionError(_foreign(text, at), column=at + 1)


def _foreign(text: str, at: int) -> str:
    number = _NUMBER.match(text, at)
    if number:
        return f"a number stands in single quotes: '{number[0][:40]}'"
    return _FOREIGN.get(text[at : at + 2]) or _FOREIGN.get(text[at]) or f"{text[at]!r} is not part of the language"


def _quoted(text: str, at: int) -> tuple[Token, int]:
    end = text.find("'", at + 1)
    if end < 0:
        raise ConditionError("the text that begins here has no closing quote", column=at + 1)
    inside = text[at + 1 : end]
    if "{{" in inside:
        raise ConditionError("a template within quotes is not filled in: write {{ ... }} without quotes", column=at + 1)
    return Token(Kind.OPERAND, text[at : end + 1], at + 1, Text(scalar(inside), at + 1)), end + 1


def _path(text: str, at: int) -> tuple[str, int]:
    """The path of the template that begins at ``at``, and the index after it."""
    end = text.find("}}", at + 2)
    if end < 0:
        raise ConditionError("the template that begins here has no closing '}}'", column=at + 1)
    path = text[at + 2 : end].strip()
    if not path:
        raise ConditionError("the template is empty: write {{ context... }}", column=at + 1)
    if len(path) > MAX_PATH or "{" in path or "}" in path or "\n" in path:
        raise ConditionError("the template does not hold one path", column=at + 1)
    return path, end + 2


def _array(text: str, at: int) -> tuple[Token, int]:
    items: list[Text | Template] = []
    start = here = at + 1
    while here < len(text):
        if text.startswith("{{", here):
            _, here = _path(text, here)
            continue
        char = text[here]
        if char == "[":
            raise ConditionError("arrays cannot be nested", column=here + 1)
        if char in ",]":
            items.append(_item(text[start:here], start))
            start = here + 1
        here += 1
        if char == "]":
            return Token(Kind.OPERAND, text[at:here], at + 1, ArrayLiteral(tuple(items), at + 1)), here
    raise ConditionError("the array that begins here has no closing ']'", column=at + 1)


def _item(raw: str, at: int) -> Text | Template:
    if "{{" not in raw:
        return Text(element(raw), at + 1)
    inside = raw.strip(" \t\r\n\"'")
    path, end = _path(inside, inside.index("{{"))
    if not inside.startswith("{{") or end != len(inside):
        raise ConditionError("an element of an array is either a text or one template", column=at + 1)
    return Template(path, at + 1)


def _word(text: str, at: int, word: str) -> Token:
    upper = word.upper()
    if word in _LOGIC:
        _check_blanks(text, at, word)
        return Token(_LOGIC[word], word, at + 1)
    if upper in ("CONTAINS", "NOT_CONTAINS"):
        return Token(Kind.OPERATOR, word, at + 1, operator=Operator(upper))
    if is_null(word):
        return Token(Kind.OPERAND, word, at + 1, Text(None, at + 1))
    if upper in ("AND", "OR"):
        raise ConditionError(f"write {upper} in capitals instead of {word!r}", column=at + 1)
    if upper == "NOT":
        raise ConditionError("NOT is not part of the language: use != or NOT_CONTAINS", column=at + 1)
    if upper == "IN":
        raise ConditionError("IN is not part of the language: write CONTAINS", column=at + 1)
    shown = repr(word if len(word) <= 40 else word[:40] + "...")
    raise ConditionError(
        f"{shown} is not known here: text stands in single quotes, a value in {{{{ }}}}", column=at + 1
    )


def _check_blanks(text: str, at: int, word: str) -> None:
    """AND and OR are words only between blanks; before the first and after the last operand the parser complains."""
    before = at == 0 or text[at - 1].isspace()
    after = at + len(word)
    if not before or (after < len(text) and not text[after].isspace()):
        raise ConditionError(f"{word} needs a blank on both sides", column=at + 1)
