"""Checks of a workflow's schedule: when its batch starts, and which payloads it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone

from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.problems import nearest
from airflow_monai.specs.view import SpecView

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
UID = re.compile(r"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
"""PS3.5 section 9.1: at most 64 characters, components of digits without leading zeros."""


def schedules(view: SpecView) -> Iterator[Finding]:
    """A cron expression, time zone, time or UID that means nothing."""
    schedule = view.spec.schedule
    if schedule is None:
        return
    if not view.doubts.lost("schedule", "cron"):
        yield from _cron(("schedule", "cron"), schedule.cron)
    yield from _timezone(("schedule", "timezone"), schedule.timezone)
    select, at = schedule.select, ("schedule", "select")
    yield from _window(at, select.received_after, select.received_before)
    for index, uid in enumerate(select.study_instance_uids):
        if not UID.fullmatch(uid):
            message = f"{uid[:70]!r} is no UID (DICOM PS3.5 section 9.1)"
            hint = "digits and dots, no leading zeros, at most 64 characters, in quotes"
            yield Finding((*at, "study_instance_uids", index), "bad-uid", message, hint)


def _cron(at: Location, text: str) -> Iterator[Finding]:
    problem = cron_problem(text)
    if problem:
        hint = nearest(text, PRESETS) if text.startswith("@") else ""
        example = f'for example "0 2 * * *" (every day at two), or one of {", ".join(PRESETS)}'
        yield Finding(at, "bad-cron", f"{text[:60]!r} is no cron expression: {problem}", hint or example)


def cron_problem(text: str) -> str:
    """What keeps a text from being a cron expression of five fields or a preset; empty when nothing does."""
    from croniter import CroniterBadDateError, CroniterError, croniter

    if text in PRESETS:
        return ""
    if text.startswith("@"):
        return "there is no such preset"
    count = len(text.split())
    if count != 5:
        return f"it has {count} fields, and needs five (minute, hour, day of the month, month, day of the week)"
    try:
        croniter(text, datetime.now(timezone.utc)).get_next()
    except CroniterBadDateError:
        return "it never comes"
    except (CroniterError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = str(error).split("] ")[-1].strip() if isinstance(error, CroniterError) else ""
        return f"a field {told}" if told.startswith("is ") else told or "a field cannot be read"
    return ""


def _timezone(at: Location, name: str) -> Iterator[Finding]:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = nearest(name, available_timezones()) or "for example UTC or Europe/Berlin"
        yield Finding(at, "unknown-timezone", f"there is no time zone {name[:60]!r}", hint)


def _window(at: Location, after: str | None, before: str | None) -> Iterator[Finding]:
    moments = {}
    for name, text in (("received_after", after), ("received_before", before)):
        if text is None:
            continue
        moments[name] = moment_of(text)
        if moments[name] is None:
            message = f"{name}: {text[:60]!r} is no time"
            yield Finding((*at, name), "bad-time", message, "ISO 8601, for example 2026-03-01 or 2026-03-01T06:00:00Z")
    first, last = moments.get("received_after"), moments.get("received_before")
    if first and last and first > last:
        message = "received_after is later than received_before, so that nothing is selected"
        yield Finding((*at, "received_after"), "bad-time", message, "exchange them")


def moment_of(text: str) -> datetime | None:
    """The moment of a text of ISO 8601, a date meaning its first second, no offset meaning UTC; None for no time."""
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
