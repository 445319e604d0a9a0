"""Times as engines and clusters write them."""

from __future__ import annotations

from datetime import datetime


def time_of(text: str | None) -> datetime | None:
    """A time with or without a fraction, which may have nanoseconds; None for none, and for the engine's zero value."""
    if not text or text.startswith("0001-"):
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(fraction[:6] or '0').ljust(6, '0')}+00:00")
