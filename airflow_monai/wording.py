"""How things are said to people."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """So many of something.

    :param many: of more than one; by default with an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
