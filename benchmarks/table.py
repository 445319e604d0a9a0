"""Rows of a benchmark and how they are printed."""

from __future__ import annotations

from typing import TypedDict


class Unavailable(Exception):
    """A part that this benchmark needs (an engine, a program) is missing here."""


class Row(TypedDict, total=False):
    """One comparison. ``ratio`` is ours over theirs; ``better`` says which way is good."""

    benchmark: str
    case: str
    ours: str
    theirs: str
    peer: str
    ratio: float
    bar: str
    better: str  # "lower" or "higher"


def print_table(rows: list[Row]) -> None:
    """Print the rows as a table that Markdown reads too."""
    titles = ["benchmark", "case", "ours", "peer", "theirs", "ratio", "bar"]
    lines = [[_cell(row, title) for title in titles] for row in rows]
    widths = [max(len(line[i]) for line in [titles, *lines]) for i in range(len(titles))]
    for line in [titles, ["-" * width for width in widths], *lines]:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |")


def _cell(row: Row, title: str) -> str:
    value = row.get(title, "")
    return f"{value:.2f}" if isinstance(value, float) else str(value)
