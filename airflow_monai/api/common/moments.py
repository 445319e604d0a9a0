"""Times in requests."""

from __future__ import annotations

from datetime import datetime, timezone

from fastapi import HTTPException


def utc(moment: datetime) -> datetime:
    """A time in UTC, which it is in where it has no offset.

    :raises HTTPException: 400 for one whose offset leads beyond the calendar.
    """
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise HTTPException(400, "A time of the request is none in UTC: say one of the years 1 to 9999.") from None
