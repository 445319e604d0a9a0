"""Places within a JSON document: ``data.jobs.0.id``, or as a JSON Pointer (RFC 6901) ``/data/jobs/0/id``."""

from __future__ import annotations

import re
from typing import Any

MAX_DEPTH = 50


def keys_of(text: str) -> tuple[str, ...]:
    """The keys that lead to a place, from the document down.

    :raises ValueError: when the text is none.
    """
    text = text.strip()
    if text.startswith("/"):
        if re.search(r"~([^01]|\Z)", text):
            raise ValueError("in a JSON Pointer '~' stands before 0 or 1 only")
        keys = tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))
    else:
        keys = tuple(text.split("."))
        if not all(keys):
            raise ValueError("write keys with dots between them, as in data.jobs.0.id, or a JSON Pointer")
    if len(keys) > MAX_DEPTH:
        raise ValueError(f"it has more than {MAX_DEPTH} keys")
    return keys


def look_up(document: Any, text: str) -> Any:
    """The value at a place, None where there is nothing."""
    for key in keys_of(text):
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.isdecimal() and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return document
