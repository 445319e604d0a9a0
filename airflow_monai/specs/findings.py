"""What a check found, before it is given a place in the file."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_monai.specs.problems import Severity

Location = tuple[str | int, ...]
KEY = -1
"""Last in a location: the name of the entry, in place of its value."""


def path_of(at: Location) -> str:
    """A place as people write it: ``tasks[0].id``."""
    parts = at[:-1] if at and at[-1] == KEY else at
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a model.

    :param at: field names and list indexes from the workflow down to the value.
    :param offset: index in that value's text.
    """

    at: Location
    code: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    offset: int = 0


def warning(at: Location, code: str, message: str, hint: str = "", offset: int = 0) -> Finding:
    """A finding that does not keep the workflow from loading."""
    return Finding(at, code, message, hint, Severity.WARNING, offset)
