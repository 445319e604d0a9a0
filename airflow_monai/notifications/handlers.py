"""Handlers: who wants to be told of what, and where.

notifications/handlers/<id>.json    a handler; removing it ends all that is told to it
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    """The handlers of a site."""

    def __init__(self, store: Store):
        self._store = store

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
