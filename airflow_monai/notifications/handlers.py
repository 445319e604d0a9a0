"""Handlers: who wants to be told of what, and where.

notifications/handlers/<id>.json    a handler; removing it ends all that is told to it. It changes once, when it lapses:
                                    its owner has no right to what it is told any more, or was not seen for too long
notifications/confirmed/<id>.json   when its owner was last seen to have a right to what it is told
notifications/removed/<id>.json     one that a request under its idempotency key could ask for again: it is not made

Nobody can ask Airflow's auth manager what somebody may who is not there: rights are looked at when the owner asks
something about a handler, and one whose owner does not is told nothing after some time.

Whether a handler is told anything is in the one object that makes it a handler, so that one request to the store says
so before each notification (:mod:`airflow_monai.notifications.lasting`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_monai.errors import InvalidArgument, StoreError
from airflow_monai.lifecycle.happening import Happening, What
from airflow_monai.store.base import Store

FOLDER = "notifications/handlers"
MOST_HANDLERS = 100
MOST_OF_ONE = 20
"""So many one person may have."""
MAX_URL = 2000
DAYS = 90.0
"""A handler counts for so long after its owner was seen to have a right to it."""
_CONFIRM_AGAIN = timedelta(hours=1)
MIN_SECRET, MAX_SECRET = 16, 200


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
        return f"handler-{self.id}"

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
        return cls(**known)


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

    def ids(self) -> list[str]:
        return [name.removesuffix(".json") for name in self._store.children(FOLDER) if name.endswith(".json")]

    def get(self, handler_id: str) -> Handler | None:
        key = handler_key(handler_id)
        found = self._read(key) if key is not None else None
        try:
            return None if found is None else Handler.from_dict(found)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The notification handler {key} is damaged: {error}.") from error

    def all(self) -> list[Handler]:
        """Those that were registered first come first."""
        found = [handler for handler in map(self.get, self.ids()) if handler is not None]
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
        return self._store.create_json(_key(handler.id), handler.to_dict()) and not self._was_removed(handler)

    def remove(self, handler_id: str) -> None:
        """End all that is told to it: nothing is sent any more that was not just being sent."""
        handler = self.get(handler_id)
        if handler is None:
            return
        if handler.keyed:  # noted first: whoever makes it again at this moment looks for that afterwards
            self._store.create_json(_removed_key(handler.id), {})
        self._store.delete(_key(handler.id))
        self._store.delete(_confirmed_key(handler.id))

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
            self._store.write_json(_key(handler.id), handler.to_dict())
            self._was_removed(handler)
        return handler

    def standing(self, handler: Handler, now: datetime | None = None) -> Standing:
        """As far as the handler was read, and time has passed."""
        at = self._read(_confirmed_key(handler.id))
        confirmed = datetime.fromisoformat(handler.registered if at is None else at["at"])
        until = confirmed + timedelta(days=self._days) if self._days else None
        is_past = until is not None and (now or datetime.now(timezone.utc)) >= until
        unseen = f"Its owner has not asked for it for {self._days:g} days. Register it again."
        return Standing(confirmed, until, handler.lapsed or (unseen if is_past else ""))

    def _was_removed(self, handler: Handler) -> bool:
        """Whether one was removed that has just been written: it is, then."""
        if not handler.keyed or not self._store.exists(_removed_key(handler.id)):
            return False
        self._store.delete(_key(handler.id))
        return True

    def _read(self, key: str) -> Any:
        """What an object holds, in one request; None where there is none."""
        try:
            return self._store.read_json(key)
        except StoreError:
            if self._store.exists(key):
                raise
            return None


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
    return f"notifications/removed/{handler_id}.json"


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
