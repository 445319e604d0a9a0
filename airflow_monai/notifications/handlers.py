"""Handlers: who wants to be told of what, and where.

notifications/handlers/<id>.json    a handler; removing it ends all that is told to it
notifications/confirmed/<id>.json   when its owner was last seen to have a right to what it is told
notifications/lapsed/<id>.json      its owner has not, or was not seen for too long: it is told nothing more, for good

Nobody can ask Airflow's auth manager what somebody may who is not there: rights are looked at when the owner asks
something about a handler, and one whose owner does not is told nothing after some time.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_monai.errors import InvalidArgument
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
        known = dict(data)
        known["events"] = tuple(map(What, known["events"]))
        known["dag_ids"], known["jobs"] = tuple(known["dag_ids"]), tuple(known["jobs"])
        return cls(**known)


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
        if key is None or not self._store.exists(key):
            return None
        return Handler.from_dict(self._store.read_json(key))

    def all(self) -> list[Handler]:
        """Those that were registered first come first."""
        found = [handler for handler in map(self.get, self.ids()) if handler is not None]
        return sorted(found, key=lambda handler: (handler.registered, handler.id))

    def exists(self, handler_id: str) -> bool:
        key = handler_key(handler_id)
        return key is not None and self._store.exists(key)

    def add(self, handler: Handler) -> None:
        """:raises InvalidArgument: when there are too many."""
        if len(self.ids()) >= MOST_HANDLERS:
            raise InvalidArgument(f"There are {MOST_HANDLERS} notification handlers already. Unregister one first.")
        if sum(one.owner == handler.owner for one in self.all()) >= MOST_OF_ONE:
            raise InvalidArgument(f"You have {MOST_OF_ONE} notification handlers already. Unregister one first.")
        self._store.create_json(_key(handler.id), handler.to_dict())

    def remove(self, handler_id: str) -> None:
        """End all that is told to it: nothing is sent any more that was not just being sent."""
        key = handler_key(handler_id)
        if key is not None:
            self._store.delete(key)
            for folder in ("confirmed", "lapsed"):
                self._store.delete(f"notifications/{folder}/{key.rpartition('/')[2]}")

    def confirm(self, handler: Handler, now: datetime | None = None) -> None:
        """Its owner has just been seen to have a right to all that it is told."""
        now = now or datetime.now(timezone.utc)
        if now - self._confirmed(handler) > _CONFIRM_AGAIN and not self.lapsed(handler, now):
            self._store.write_json(f"notifications/confirmed/{handler.id}.json", {"at": now.isoformat()})

    def lapse(self, handler: Handler, reason: str) -> None:
        """Tell it nothing more, and say why; it stays in the list until somebody removes it."""
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._store.create_json(f"notifications/lapsed/{handler.id}.json", {"at": at, "reason": reason})

    def lapsed(self, handler: Handler, now: datetime | None = None) -> str:
        """Why it is told nothing more; empty while it is."""
        key = f"notifications/lapsed/{handler.id}.json"
        if self._store.exists(key):
            return str(self._store.read_json(key)["reason"])
        until = self.until(handler)
        if until is not None and (now or datetime.now(timezone.utc)) >= until:
            return f"Its owner has not asked for it for {self._days:g} days. Register it again."
        return ""

    def until(self, handler: Handler) -> datetime | None:
        """Until when it is told what happens if its owner does not ask for it any more; None: for ever."""
        return self._confirmed(handler) + timedelta(days=self._days) if self._days else None

    def _confirmed(self, handler: Handler) -> datetime:
        key = f"notifications/confirmed/{handler.id}.json"
        at = self._store.read_json(key)["at"] if self._store.exists(key) else handler.registered
        return datetime.fromisoformat(at)


def handler_key(handler_id: str) -> str | None:
    """Key of a handler; None for what is no id."""
    try:
        return _key(str(uuid.UUID(handler_id)))
    except ValueError:
        return None


def _key(handler_id: str) -> str:
    return f"{FOLDER}/{handler_id}.json"


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
