"""What commands print: tables and facts for people, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO


def print_json(value: object, out: TextIO) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False), file=out)


def print_table(rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """:param rows: the first one is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


def print_rows(found: Iterable[Mapping[str, Any]], names: Sequence[str], out: TextIO) -> None:
    """A table of what an answer lists.

    :param names: of the fields to show.
    """
    head = [_words(name).upper() for name in names]
    print_table([head, *([text_of(one.get(name)) for name in names] for one in found)], out)


def print_facts(found: Mapping[str, Any], out: TextIO) -> None:
    """A line for each field that says something; lists of records are left to tables."""
    for name, value in _flat(found):
        if shown := text_of(value):
            print(f"{_words(name)}: {shown}", file=out)


def _words(name: str) -> str:
    """Of the name of a field, whichever way it is written."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()


def text_of(value: object) -> str:
    """In one line, without anything that would steer a terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text_of, value))
    return "".join(char if char.isprintable() else "?" for char in str(value))


def _flat(found: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif not (isinstance(value, list) and any(isinstance(one, Mapping) for one in value)):
            yield f"{above}{name}", value
