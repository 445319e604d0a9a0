"""How long a sink keeps at it within one task; the task's own retries come after that."""

from __future__ import annotations

TRIES = 3
"""How often one instance is sent, at most."""
SETBACKS = 5
"""After so many requests in a row without any success, the far side counts as unavailable."""
PAUSES = (1.0, 2.0, 4.0)
"""Seconds to wait before trying again."""


def pause_after(tried: int) -> float:
    """Seconds to wait after so many tries before the one that has just been made."""
    return PAUSES[min(tried, len(PAUSES) - 1)]
