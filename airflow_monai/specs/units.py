"""Amounts of memory and time as specs write them."""

from __future__ import annotations

import re

_MEMORY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(b|[kmgt](?:i|ib|b)?|)", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(s|m|h|d|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def memory_bytes(text: str) -> int:
    """Bytes of an amount such as ``8Gi``, ``512 MB``, ``2g`` or ``1048576``.

    ``KB MB GB TB`` are powers of 1000 and all others (also the single letters, as Docker has them) powers of 1024.

    :raises ValueError: when it is not one.
    """
    match = _MEMORY.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not an amount of memory: write a number with Mi, Gi, MB or GB, as in 8Gi")
    number, unit = match[1], match[2].lower()
    base = 1000 if len(unit) == 2 and unit[1] == "b" else 1024
    return int(float(number) * base ** _POWERS[unit[:1]])


def duration_seconds(text: str) -> float:
    """Seconds of a time such as ``30s``, ``15m``, ``2h``, ``1d`` or ``45`` (seconds).

    :raises ValueError: when it is not one.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is not a time: write a number with s, m, h or d, as in 15m")
    return float(match[1]) * _SECONDS[match[2]]
