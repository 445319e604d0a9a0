"""Addresses of e-mails: what is one, and lists of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# RFC 5321 section 4.1.2 without quoted local parts, literals and non-ASCII letters, which many servers refuse
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_LOCAL}@{_LABEL}(?:\.{_LABEL})*")


def is_address(text: str) -> bool:
    """Whether a text is a plain address, ``name@host``; no name before it, no dot at its end."""
    local, _, host = text.partition("@")
    return len(local) <= 64 and len(host) <= 253 and _ADDRESS.fullmatch(text) is not None


def listed(value: Any) -> list[str]:
    """The parts of ``a, b`` or of a list of texts, trimmed, each once."""
    parts: Iterable[Any] = value if isinstance(value, (list, tuple)) else str(value or "").split(",")
    return list(dict.fromkeys(text for part in parts if (text := str(part).strip())))
