"""What was asked to be sent again under a key of the caller's, so that whoever asks twice has it sent once.

payloads/<payload>/resends/<id>.json           what was asked, and what that was when it was asked first
payloads/<payload>/resends/<id>.answer.json    what was answered; who asks again is answered the same

A wish without an answer is one that somebody is seeing to, or has died over, or that a running task keeps from its end.
Whoever asks again goes on with it: what has been sent since is known by its requests, which are more than were noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_monai.errors import MonaiError
from airflow_monai.sinks.ledger.again import Wanted
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import payload_key


class WishReused(MonaiError):
    """The key comes again with another wish."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A wish that was asked before.

    :param wanted: what is to be sent again, as it was then.
    :param answer: None while nobody has been answered.
    """

    wanted: Wanted
    answer: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Wish:
    """
    :param id: follows from the caller and the key.
    :param asked: a hash of what is asked.
    """

    store: Store
    payload_id: str
    id: str
    asked: str

    def noted(self) -> Noted | None:
        """What is known of it; None when it is new.

        :raises WishReused: when something else was asked.
        """
        return self._known() if self.store.exists(self._place()) else None

    def begin(self, wanted: Wanted) -> Noted | None:
        """Note it before anything is done, durable when this returns; what another has noted of it in between.

        :raises WishReused: when something else was asked.
        """
        made = {"asked": self.asked, "wanted": {task: dict(objects) for task, objects in wanted.items()}}
        return None if self.store.create_json(self._place(), made) else self._known()

    def end(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """It is done. The first answer stays: it is returned."""
        place = self._place(".answer")
        if self.store.create_json(place, dict(answer)):
            return answer
        first: Mapping[str, Any] = self.store.read_json(place)
        return first

    def _place(self, more: str = "") -> str:
        return payload_key(self.payload_id, "resends", f"{safe_name(self.id)}{more}.json")

    def _known(self) -> Noted:
        noted, place = self.store.read_json(self._place()), self._place(".answer")
        if noted["asked"] != self.asked:
            raise WishReused("This Idempotency-Key was used to send something else again: use a new one.")
        return Noted(noted["wanted"], self.store.read_json(place) if self.store.exists(place) else None)
