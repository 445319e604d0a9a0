"""What is wrong with a workflow file: where, what, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from itertools import islice
from typing import Any

_MAX_EXCERPT = 160
_MOST_WORDS = 200


class Severity(str, Enum):
    """An error keeps a workflow from loading, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one place of a file.

    :param line: and ``column`` count from 1.
    :param code: short and stable, in kebab-case: ``unknown-field``.
    :param hint: what to do; may be empty.
    :param excerpt: the source line, for the human form; no part of the JSON form.
    :param path: of the field, as ``tasks[0].id``; empty where it is about the whole. No part of the JSON form either.
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    excerpt: str = field(default="", compare=False, repr=False)
    path: str = field(default="", compare=False, repr=False)

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    @property
    def place(self) -> tuple[str, int, int, str]:
        """File, line, column and code: the same for what is found again in another way."""
        return self.file, self.line, self.column, self.code

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "severity": self.severity.value,
        }

    def __str__(self) -> str:
        """The human form: place and message, then the source line with a caret, then the hint."""
        lines = [f"{self.file}:{self.line}:{self.column}: {self.severity.value}: {self.message} [{self.code}]"]
        lines += self._pointer()
        if self.hint:
            lines.append(f"      hint: {self.hint}")
        return "\n".join(lines)

    def _pointer(self) -> list[str]:
        if not self.excerpt.strip():
            return []
        start = max(0, self.column - _MAX_EXCERPT // 2) if len(self.excerpt) > _MAX_EXCERPT else 0
        shown = "".join(char if char.isprintable() else " " for char in self.excerpt[start : start + _MAX_EXCERPT])
        return [f"{self.line:5} | {shown}", "      | " + " " * (self.column - 1 - start) + "^"]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems by file, line and column, each once."""
    return sorted(dict.fromkeys(problems), key=lambda item: (item.file, item.line, item.column, item.code))


def errors_of(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Those that keep a workflow from loading."""
    return tuple(problem for problem in problems if problem.is_error)


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the known word most like this one, or an empty text."""
    match = nearest_word(word, known)
    return f"did you mean {match!r}?" if match else ""


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one, whatever its case, or None where none is much like it."""
    by_lower = {item.lower(): item for item in known}
    if len(by_lower) > _MOST_WORDS:
        by_lower = _likely_words(word.lower(), by_lower)
    matches = get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=0.55)
    return by_lower[matches[0]] if matches else None


def _likely_words(word: str, by_lower: dict[str, str]) -> dict[str, str]:
    """Of very many words those that begin or end like one, so that no file makes looking for them slow."""
    ends = (word[:3], word[-3:])
    near = (item for item in by_lower if item[:3] == ends[0] or item[-3:] == ends[1])
    return {item: by_lower[item] for item in islice(near, _MOST_WORDS)}
