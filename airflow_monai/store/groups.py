"""Which images become one payload, and the ids of these payloads: the same for any gateway on one store."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_monai.specs.plan import Grouping
from airflow_monai.store.base import Store
from airflow_monai.store.part10 import Identity
from airflow_monai.store.payloads import payload_id_of, payload_key, payload_uuid

SALT_KEY = "site/salt.json"
"""A patient's ID can be guessed, so its hash is one that only who has the store can make."""


@dataclass(frozen=True, slots=True)
class Group:
    """Images that belong together at an AE title.

    :param grouping: what they have in common.
    :param key: stands for it in the ids of their payloads; no two groups have the same.
    :param asked: what the workflows asked for; another one where an image does not say whose it is.
    """

    grouping: Grouping
    key: str
    asked: Grouping

    @property
    def fell_back(self) -> bool:
        return self.asked is not self.grouping


class Groups:
    """Tells the group of an image."""

    def __init__(self, store: Store):
        self._store = store
        self._salt = b""

    def of(self, identity: Identity, grouping: Grouping) -> Group:
        """The image's group. One without a PatientID goes with its study."""
        if grouping is Grouping.SERIES:
            return Group(grouping, f"{identity.study}/{identity.series}", grouping)
        if grouping is Grouping.PATIENT and identity.patient_id:
            return Group(grouping, self._patient_key(identity), grouping)
        return Group(Grouping.STUDY, identity.study, grouping)

    def others(self, identity: Identity, group: Group) -> list[Group]:
        """Groups that the image would be in if its AE title were grouped otherwise, and may have been before."""
        found = [self.of(identity, Grouping.STUDY), self.of(identity, Grouping.SERIES)]
        if identity.patient_id and (self._salt or self._store.exists(SALT_KEY)):
            found.append(self.of(identity, Grouping.PATIENT))
        return [other for other in found if other.key != group.key]

    def _patient_key(self, identity: Identity) -> str:
        whom = json.dumps([identity.issuer, identity.patient_id]).encode()
        return f"patient/{hmac.new(self._secret(), whom, hashlib.sha256).hexdigest()}"

    def _secret(self) -> bytes:
        if not self._salt:
            if not self._store.exists(SALT_KEY):
                self._store.create_json(SALT_KEY, {"salt": os.urandom(32).hex()})
            self._salt = bytes.fromhex(self._store.read_json(SALT_KEY)["salt"])
        return self._salt


def opened_payload(store: Store, payload_id: str) -> dict[str, Any]:
    """What the ``open.json`` of a payload says; one of before there were groupings is of a study."""
    return store.read_as(payload_key(payload_id, "open.json"), _opened)


def _opened(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {"grouping": Grouping.STUDY.value, "group": data.get("study_instance_uid", ""), "includes": [], **data}
    Grouping(found["grouping"])
    texts = (found["group"], found["study_instance_uid"], found["called_aet"], found.get("opened", ""))
    if not all(isinstance(text, str) for text in (*texts, *found["includes"])) or type(found["sequence"]) is not int:
        raise TypeError("a value has another type than it should")
    return found


def member_id(key: str, called_aet: str, sequence: int) -> str:
    """The ``sequence``-th payload of a group at an AE title."""
    return payload_id_of(key, called_aet, sequence)


def whole_id(key: str, called_aet: str, sequence: int) -> str:
    """The payload that holds the ``sequence``-th one and all before it."""
    return payload_uuid(f"{key}|{called_aet}|{sequence}|whole")
