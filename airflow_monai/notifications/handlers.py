"""Handlers: who wants to be told of what, and where.

notifications/handlers/<id>.json    a handler; removing it ends all that is told to it. It changes once, when it lapses:
                                    its owner has no right to what it is told any more, or was not seen for too long
notifications/confirmed/<id>.json   when its owner was last seen to have a right to what it is told
notifications/removed/<id>.json     for 90 days after one was removed: neither a request under its idempotency key nor
                                    somebody who has just read it makes it again
notifications/lapsed/<id>.json      why one has lapsed, as an earlier version noted it; it is in the handler now

Nobody can ask Airflow's auth manager what somebody may who is not there: rights are looked at when the owner asks
something about a handler, and one whose owner does not is told nothing after some time.

Whether a handler is told anything is in the one object that makes it a handler, so that one request to the store says
so before each notification (:mod:`airflow_monai.notifications.lasting`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from airflow_monai.errors import InvalidArgument, StoreError
from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.store.base import Store
from airflow_monai.store.damaged import undamaged
from airflow_monai.store.shapes import moment

FOLDER = "notifications/handlers"
_REMOVED = "notifications/removed"
MOST_HANDLERS = 100
MOST_OF_ONE = 20
"""So many one person may have."""
MAX_URL = 2000
DAYS = 90.0
"""A handler counts for so long after its owner was seen to have a right to it."""
_CONFIRM_AGAIN = timedelta(hours=1)
_REMOVED_DAYS = 90.0
MIN_SECRET, MAX_SECRET = 16, 200


T = TypeVar("T")


class Cipher(Protocol):
    """Keeps secrets from whoever can read the store."""

    def encrypt(self, text: str) -> str:
        """:raises SecretsUnsafe: when the site has no key."""

    def decrypt(self, text: str) -> str:
        """:raises SecretsUnsafe: when it is another key."""


@dataclass(frozen=True, slots=True)
class Handler:
    """
    :param events: what it wants to know.
    :param dag_ids: of which workflows; none: of all.
    :param jobs: ids of the workflow instances; none: of all.
    :param secret: encrypted.
    :param owner: who registered it; ``registered``: when, ISO 8601.
    :param start: batch of the journal that it begins with.
    :param keyed: its id follows from an idempotency key, so that the same request makes no other one.
    :param made_secret: the secret is none of its owner's.
    :param lapsed: why it is told nothing more; empty while it is.
    """

    id: str
    url: str
    events: tuple[What, ...]
    dag_ids: tuple[str, ...]
    jobs: tuple[str, ...]
    secret: str
    owner: str
    registered: str
    start: int
    description: str = ""
    keyed: bool = False
    made_secret: bool = False
    lapsed: str = ""

    @property
    def channel(self) -> str:
        return channel_of(self.id)

    def wants(self, event: Happening) -> bool:
        return (
            event.what in self.events
            and (not self.dag_ids or event.dag_id in self.dag_ids)
            and (not self.jobs or event.instance_id in self.jobs)
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "events": [event.value for event in self.events]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Handler:
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        known["events"] = tuple(map(What, known["events"]))
        known["dag_ids"], known["jobs"] = tuple(known["dag_ids"]), tuple(known["jobs"])
        moment(known["registered"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class _Stored:
    """
    :param before: by an earlier version, which noted elsewhere that one has lapsed.
    """

    handler: Handler
    before: bool

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> _Stored:
        return cls(Handler.from_dict(data), "lapsed" not in data)


@dataclass(frozen=True, slots=True)
class Standing:
    """How long a handler is told anything.

    :param confirmed: when its owner was last seen to have a right to it.
    :param until: when it lapses if its owner does not ask for it any more; None: never.
    :param lapsed: why it is told nothing more; empty while it is.
    """

    confirmed: datetime
    until: datetime | None
    lapsed: str


class Handlers:
    """The handlers of a site.

    :param days: how long one counts after its owner was seen to have a right to it; 0: for ever.
    """

    def __init__(self, store: Store, days: float = DAYS):
        self._store = store
        self._days = days
        self._unlapsed: set[str] = set()
        """Those of an earlier version of which that has noted nothing; nor will it."""

    def ids(self) -> list[str]:
        found = [name.removesuffix(".json") for name in self._store.children(FOLDER) if name.endswith(".json")]
        self._unlapsed.intersection_update(found)
        return found

    def get(self, handler_id: str) -> Handler | None:
        key = handler_key(handler_id)
        stored = self._read(key, _Stored.from_dict) if key is not None else None
        if stored is None:
            return None
        if not stored.before or stored.handler.id in self._unlapsed:
            return stored.handler
        return self._as_noted_before(stored.handler)

    def all(self) -> list[Handler]:
        """Those that were registered first come first. One that is damaged keeps no other, and is told of."""
        found = list(undamaged(self.ids(), self.get))
        return sorted(found, key=lambda handler: (handler.registered, handler.id))

    def add(self, handler: Handler) -> bool:
        """
        :return: False for one of a key under which there was one before; :meth:`get` knows whether it still is.
        :raises InvalidArgument: when there are too many.
        """
        if handler.keyed and self._store.exists(_removed_key(handler.id)):
            return False
        count = len(self.ids())
        if count >= MOST_HANDLERS:
            raise InvalidArgument(f"There are {MOST_HANDLERS} notification handlers already. Unregister one first.")
        if count >= MOST_OF_ONE and sum(one.owner == handler.owner for one in self.all()) >= MOST_OF_ONE:
            raise InvalidArgument(f"You have {MOST_OF_ONE} notification handlers already. Unregister one first.")
        if not self._store.create_json(_key(handler.id), handler.to_dict()):
            return False
        return not handler.keyed or not self._was_removed(handler)

    def remove(self, handler_id: str) -> None:
        """End all that is told to it: nothing is sent any more that was not just being sent."""
        handler = self.get(handler_id)
        if handler is None:
            return
        # noted first: whoever writes it at this moment looks for that afterwards
        self._store.create_json(_removed_key(handler.id), {})
        for key in (_key(handler.id), _confirmed_key(handler.id), _lapsed_key(handler.id)):
            self._store.delete(key)
        with suppress(StoreError):  # the handler is removed; the next removal tidies too
            self._tidy()

    def confirm(self, handler: Handler, now: datetime | None = None) -> None:
        """Its owner has just been seen to have a right to all that it is told."""
        now = now or datetime.now(timezone.utc)
        standing = self.standing(handler, now)
        if not standing.lapsed and now - standing.confirmed > _CONFIRM_AGAIN:
            self._store.write_json(_confirmed_key(handler.id), {"at": now.isoformat()})

    def lapse(self, handler: Handler, reason: str) -> Handler:
        """Tell it nothing more, and say why; it stays in the list until somebody removes it."""
        handler = self.get(handler.id) or replace(handler, lapsed=reason)
        if not handler.lapsed:
            handler = replace(handler, lapsed=reason)
            self._write(handler)
        return handler

    def standing(self, handler: Handler, now: datetime | None = None) -> Standing:
        """As far as the handler was read, and time has passed."""
        at = self._read(_confirmed_key(handler.id), _at)
        confirmed = datetime.fromisoformat(handler.registered) if at is None else at
        until = confirmed + timedelta(days=self._days) if self._days else None
        is_past = until is not None and (now or datetime.now(timezone.utc)) >= until
        unseen = f"Its owner has not asked for it for {self._days:g} days. Register it again."
        return Standing(confirmed, until, handler.lapsed or (unseen if is_past else ""))

    def _as_noted_before(self, handler: Handler) -> Handler | None:
        """One of an earlier version, with what that has noted of its end. It is written into it, so that it is looked
        for once."""
        reason = self._read(_lapsed_key(handler.id), _reason)
        if reason is None:
            self._unlapsed.add(handler.id)
            return handler
        handler = replace(handler, lapsed=reason)
        return handler if self._write(handler) else None

    def _write(self, handler: Handler) -> bool:
        """Replace it; False when it was removed meanwhile."""
        self._store.write_json(_key(handler.id), handler.to_dict())
        return not self._was_removed(handler)

    def _tidy(self) -> None:
        """Forget what was removed so long ago that nobody asks for it again."""
        before = time.time() - _REMOVED_DAYS * 86400
        for entry in list(self._store.entries(_REMOVED)):
            if entry.modified < before:
                self._store.delete(entry.key)

    def _was_removed(self, handler: Handler) -> bool:
        """Whether one was removed that has just been written: it is, then."""
        if not self._store.exists(_removed_key(handler.id)):
            return False
        self._store.delete(_key(handler.id))
        return True

    def _read(self, key: str, make: Callable[[Any], T]) -> T | None:
        """What an object holds, in one request; None where there is none."""
        try:
            return self._store.read_as(key, make)
        except StoreError:
            if self._store.exists(key):
                raise
            return None


def _at(data: Mapping[str, Any]) -> datetime:
    return moment(data["at"])


def _reason(data: Mapping[str, Any]) -> str:
    return str(data["reason"])


def channel_of(handler_id: str) -> str:
    """What it is told goes by this name."""
    return f"handler-{handler_id}"


def handler_key(handler_id: str) -> str | None:
    """Key of a handler; None for what is no id."""
    try:
        return _key(str(uuid.UUID(handler_id)))
    except ValueError:
        return None


def _key(handler_id: str) -> str:
    return f"{FOLDER}/{handler_id}.json"


def _confirmed_key(handler_id: str) -> str:
    return f"notifications/confirmed/{handler_id}.json"


def _removed_key(handler_id: str) -> str:
    return f"{_REMOVED}/{handler_id}.json"


def _lapsed_key(handler_id: str) -> str:
    return f"notifications/lapsed/{handler_id}.json"


def check_url(url: str) -> str:
    """An address that can be posted to.

    :raises InvalidArgument: when it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidArgument("url is no address, for example https://host.example/notifications.") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or not url.isascii() or not url.isprintable():
        raise InvalidArgument("url must be an address of https (or http), for example https://host.example/handler.")
    if " " in url or len(url) > MAX_URL or port == 0:
        raise InvalidArgument(f"url has blanks, more than {MAX_URL} characters, or port 0.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidArgument("url must hold no user, password or fragment: each message is signed with the secret.")
    return url
