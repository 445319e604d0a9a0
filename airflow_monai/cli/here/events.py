"""``airflow monai events``: who is told what happens to workflow instances, and what waits to be told."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.cli.here.configured import this_store
from airflow_monai.errors import InvalidArgument
from airflow_monai.lifecycle.happening import Happening
from airflow_monai.lifecycle.outbox import FOLDER, Place, place_of, tell_again
from airflow_monai.notifications.deliveries import Deliveries
from airflow_monai.notifications.handlers import Handlers
from airflow_monai.store.base import Store

_BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Channel:
    """Somebody who is told.

    :param name: short: ``broker``, or a handler's id.
    """

    name: str
    key: str
    where: str
    place: Place

    def to_dict(self) -> dict[str, Any]:
        place = self.place
        return {
            "channel": self.name,
            "where": self.where,
            "told": place.told,
            "waiting": sum(len(one.refs) for one in place.waiting.values()),
            "failed": place.failed,
            "state": "failing" if place.failures else "well",
            "failing_since": _text(place.down_since) if place.down_since else None,
            "reason": place.reason or None,
        }


def channels(store: Store) -> Iterator[Channel]:
    """All who are told."""
    for handler in Handlers(store).all():
        place = place_of(store, handler.channel) or Place(handler.start)
        yield Channel(handler.id, handler.channel, handler.url, place)
    if _BROKER in store.children(FOLDER):
        yield Channel(_BROKER, _BROKER, "the message broker", place_of(store, _BROKER) or Place(1))


@ends()
def list_all(args: Namespace) -> int:
    return run_list(this_store(), args.json, sys.stdout)


@ends()
def show(args: Namespace) -> int:
    return run_show(this_store(), args.channel, args.json, sys.stdout)


@ends()
def retry(args: Namespace) -> int:
    return run_retry(this_store(), args.channel, args.events, sys.stdout)


def run_list(store: Store, as_json: bool, out: TextIO) -> int:
    """One line for each."""
    found = [channel.to_dict() for channel in channels(store)]
    if as_json:
        json.dump(found, out, indent=2)
        out.write("\n")
        return 0
    if not found:
        out.write("Nobody is told: there is no notification handler, and no event was published on a broker.\n")
    for one in found:
        counts = f"told {one['told']}, waiting {one['waiting']}, failed {one['failed']}"
        why = f"; failing since {one['failing_since']}: {one['reason']}" if one["state"] == "failing" else ""
        out.write(f"{one['channel']}  {one['where']}  {counts}{why}\n")
    return 0


def run_show(store: Store, name: str, as_json: bool, out: TextIO) -> int:
    """What was given up, what waits and why, and what is to come."""
    channel = _find(store, name)
    rows = list(_rows(store, channel))
    if as_json:
        json.dump({**channel.to_dict(), "events": rows}, out, indent=2)
        out.write("\n")
        return 0
    for row in rows:
        tries = f", tried {row['tries']} times" if row["tries"] else ""
        why = f": {row['reason']}" if row["reason"] else ""
        out.write(f"{row['state']:8}  {row['event_id']}  {row['event']}  {row['instance_id']}{tries}{why}\n")
    if not rows:
        out.write("Nothing waits, and nothing was given up.\n")
    return 0


def run_retry(store: Store, name: str, event_ids: Sequence[str], out: TextIO) -> int:
    """Have events that were given up told all the same; exit code 1 when there are none."""
    channel = _find(store, name)
    found = [one for one in channel.place.given_up if not event_ids or one.event_id in event_ids]
    tell_again(store, channel.key, [one.event_id for one in found])
    what = "1 event is" if len(found) == 1 else f"{len(found)} events are"
    out.write(f"{what} told again, within seconds, by a gateway.\n")
    return 0 if found else 1


def _rows(store: Store, channel: Channel) -> Iterator[dict[str, Any]]:
    deliveries = Deliveries(store, channel.place, _wanted(store, channel))
    for outcome in deliveries.failed():
        yield _row("failed", outcome.event_id, outcome.what, outcome.instance_id, outcome.tries, outcome.reason)
    for event, waiting, is_first in deliveries.waiting():
        tries, reason = (waiting.tries, waiting.reason) if is_first else (0, "")
        yield _row("waiting", event.id, event.what.value, event.instance_id, tries, reason)
    for event in deliveries.pending():
        yield _row("pending", event.id, event.what.value, event.instance_id, 0, "")


def _wanted(store: Store, channel: Channel) -> Callable[[Happening], bool]:
    handler = Handlers(store).get(channel.name)
    if handler is not None:
        return handler.wants
    from airflow_monai import settings
    from airflow_monai.broker.dialects import Dialect

    dialect = Dialect(settings.load_notifications().dialect)

    def wants(event: Happening) -> bool:
        return dialect.has_word_for(event.what)

    return wants


def _row(state: str, event_id: str, event: str, instance_id: str, tries: int, reason: str) -> dict[str, Any]:
    return {
        "state": state,
        "event_id": event_id,
        "event": event,
        "instance_id": instance_id,
        "tries": tries,
        "reason": reason,
    }


def _find(store: Store, name: str) -> Channel:
    for channel in channels(store):
        if name in (channel.name, channel.key):
            return channel
    raise InvalidArgument(f"Nobody is told by the name {name!r}; `airflow monai events list` shows who is.")


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")
