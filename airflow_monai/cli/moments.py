"""Times as people give them to commands."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_monai.errors import InvalidArgument

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, option: str = "--since") -> str:
    """The time that a date, a time or an age (``90m``, ``12h``, ``3d``) means, as manifests have it.

    :param option: of the command, for messages.
    :raises InvalidArgument: when it is none of these.
    """
    number, unit = text[:-1], _UNITS.get(text[-1:])
    try:
        if unit and number.isdecimal():
            found = datetime.now(timezone.utc) - timedelta(**{unit: int(number)})
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{option} {text!r} is no date (2026-01-31), time, or age (90m, 12h, 3d).") from None
    found = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return found.astimezone(timezone.utc).isoformat(timespec="milliseconds")
