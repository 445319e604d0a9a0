"""What was asked to be sent again under a key of the caller's, so that whoever asks twice has it sent once.

payloads/<payload>/resends/<id>.json    what was asked, and what was answered, as soon as that was
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_monai.errors import MonaiError
from airflow_monai.store.base import Store, safe_name
from airflow_monai.store.payloads import payload_key


class WishReused(MonaiError):
    """The key comes again with another wish."""


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

    @property
    def _place(self) -> str:
        return payload_key(self.payload_id, "resends", f"{safe_name(self.id)}.json")

    def answer(self) -> Mapping[str, Any] | None:
        """What was answered to it; None while nobody has been.

        :raises WishReused: when something else was asked.
        """
        return self._known() if self.store.exists(self._place) else None

    def begin(self) -> Mapping[str, Any] | None:
        """Note it before anything is done; what was answered to it in between."""
        return None if self.store.create_json(self._place, {"asked": self.asked}) else self._known()

    def end(self, answer: Mapping[str, Any]) -> None:
        self.store.write_json(self._place, {"asked": self.asked, "answer": dict(answer)})

    def _known(self) -> Mapping[str, Any] | None:
        noted = self.store.read_json(self._place)
        if noted["asked"] != self.asked:
            raise WishReused("This Idempotency-Key was used to send something else again: use a new one.")
        found: Mapping[str, Any] | None = noted.get("answer")
        return found
