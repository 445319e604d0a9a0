"""What to do about text that is no YAML: the parser tells where it stumbled, these tell the likely mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

_MAX_LINE = 2_000  # the searches below look again and again through a line whose quotes do not close
QUOTES = "put a value with {{ }} in double quotes, and text in it in single ones: \"{{ context.x }} == 'CT'\""
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'")
_TEMPLATE_AND_MORE = re.compile(r"\"\{\{[^\"]*\}\}\"\s*[=!<>CN]")
_NO_BLANK = re.compile(r"\s*(?:- +)*([A-Za-z_$][\w$-]*):[^\s/:]")
_KEY = re.compile(r"\s*(?:- +)*[A-Za-z_$][\w$-]*:(?:\s|$)")
_QUOTE_AND_MORE = re.compile(r"[:\-]\s+(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*')\s*[^\s#,\]}:]")


@dataclass(frozen=True, slots=True)
class _Stumble:
    """Where the parser gave up; lines and columns count from 0.

    :param told: the parser's words, which differ between its two implementations.
    :param began: line where what it was reading began.
    """

    lines: list[str]
    line: int
    column: int
    told: str
    began: int

    @property
    def here(self) -> str:
        return self.lines[self.line] if self.line < len(self.lines) else ""

    def before(self) -> int | None:
        """The line above that holds something."""
        for number in range(min(self.line, len(self.lines)) - 1, -1, -1):
            if self.lines[number].strip() and not self.lines[number].lstrip().startswith("#"):
                return number
        return None

    def suspects(self) -> Iterator[int]:
        """Lines in which the mistake may be."""
        above = self.before()
        yield from dict.fromkeys(
            number for number in (self.began, above, self.line) if number is not None and number < len(self.lines)
        )


def syntax_hint(text: str, error: yaml.MarkedYAMLError) -> str:
    """What most likely helps; empty where nothing is likely."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return ""
    began = error.context_mark.line if error.context_mark else mark.line
    told = f"{error.context or ''} {error.problem or ''}"
    stumble = _Stumble([line[:_MAX_LINE] for line in text.split("\n")], mark.line, mark.column, told, began)
    return next((found for rule in _RULES if (found := rule(stumble))), "")


def _tab(at: _Stumble) -> str:
    return "indent with blanks, not with tabs" if "\t" in at.here[: max(at.column, 1)] else ""


def _template(at: _Stumble) -> str:
    bare = "{{" in _QUOTED.sub("", at.here) or _TEMPLATE_AND_MORE.search(at.here)
    return QUOTES if bare else ""


def _open_quote(at: _Stumble) -> str:
    return f"the quote that opens on line {at.began + 1} is not closed" if "quoted scalar" in at.told else ""


def _open_bracket(at: _Stumble) -> str:
    if "flow" not in at.told:
        return ""
    return f"the bracket that opens on line {at.began + 1} is not closed, or a comma is missing"


def _first_character(at: _Stumble) -> str:
    if "cannot start any token" not in at.told:
        return ""
    return f"put a text that begins with {at.here[at.column : at.column + 1]!r} in quotes"


def _star(at: _Stumble) -> str:
    """A cron expression such as ``* * * * *`` begins as an alias of YAML does."""
    return "put a text that begins with '*' in quotes" if "scanning an alias" in at.told else ""


def _no_blank(at: _Stumble) -> str:
    for number in at.suspects():
        found = _NO_BLANK.match(at.lines[number])
        if found:
            return f"leave a blank after the colon on line {number + 1}: {found[1][:40]}: ..."
    return ""


def _no_colon(at: _Stumble) -> str:
    return f"write line {at.began + 1} as key: value" if "expected ':'" in at.told else ""


def _more_than_quoted(at: _Stumble) -> str:
    return "put the whole value in quotes, not a part of it" if _QUOTE_AND_MORE.search(at.here) else ""


def _colon_in_text(at: _Stumble) -> str:
    first = _KEY.match(at.here)
    inner = "mapping values" in at.told and first is not None and at.column > first.end() - 1
    return "put a text that holds ': ' in quotes" if inner else ""


def _indentation(at: _Stumble) -> str:
    above = at.before()
    if above is None or ("block" not in at.told and "mapping values" not in at.told):
        return ""
    if "block collection" in at.told and at.began < at.line and _is_item(at.here) and _is_item(at.lines[at.began]):
        above = at.began  # the list's first dash; the line above is of its last item, however deep
    are_dashes = _is_item(at.here) and _is_item(at.lines[above])
    here, there = (_begin(line, are_dashes) for line in (at.here, at.lines[above]))
    if here == there:
        return ""
    what = "the dashes of one list" if are_dashes else "the fields of one mapping"
    return (
        f"check the indentation: line {at.line + 1} begins in column {here}, line {above + 1} in column {there}; "
        f"{what} begin in the same column"
    )


def _is_item(line: str) -> bool:
    return line.lstrip(" ").startswith("- ")


def _begin(line: str, with_dash: bool) -> int:
    """Column, from 1, in which the line's text begins."""
    return len(line) - len(line.lstrip(" " if with_dash or not _is_item(line) else " -")) + 1


_RULES: tuple[Callable[[_Stumble], str], ...] = (
    _tab,
    _template,
    _open_quote,
    _open_bracket,
    _first_character,
    _star,
    _no_blank,
    _no_colon,
    _more_than_quoted,
    _colon_in_text,
    _indentation,
)
