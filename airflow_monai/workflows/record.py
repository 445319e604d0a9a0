"""One revision of a registered workflow: its text as YAML or JSON, below one line that says what it is.

It is one object, so that it is there whole or not at all, and a person can read it as it lies there.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from airflow_monai.specs.claims import WORKFLOW_SUFFIX
from airflow_monai.specs.compile import dag_id_of
from airflow_monai.store.base import safe_name

ROOT = "workflows"
_HEAD = "# airflow_monai workflow "
_FACTS = ("workflow_id", "revision", "name", "version", "changed_at", "changed_by", "is_deleted", "former")


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision; it never changes.

    :param workflow_id: a UUID: the same for all revisions of a workflow, another one when its name is registered anew
        after it was deleted.
    :param number: among all objects of this name, from 1.
    :param revision: of this workflow, from 1; deleting makes none.
    :param version: as the text says it.
    :param changed_at: when it was made (UTC, ISO 8601), and ``changed_by``: by whom.
    :param is_deleted: it says that the workflow is not registered any more; its text is the last one.
    :param former: ids of deleted workflows that had this name before.
    """

    workflow_id: str
    name: str
    version: str
    number: int
    revision: int
    text: str
    changed_at: str
    changed_by: str = ""
    is_deleted: bool = False
    former: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return key_of(folder_of(self.name), self.number)

    @property
    def source(self) -> str:
        """Where it stands among workflow files, for messages."""
        return source_of(folder_of(self.name))

    @property
    def dag_id(self) -> str:
        return dag_id_of(self.name)

    @property
    def id(self) -> str:
        """A UUID of this revision alone."""
        return str(uuid.uuid5(uuid.UUID(self.workflow_id), str(self.revision)))

    def to_bytes(self) -> bytes:
        facts = {name: getattr(self, name) for name in _FACTS}
        return f"{_HEAD}{json.dumps(facts)}\n{self.text}".encode()

    @classmethod
    def from_bytes(cls, data: bytes, number: int) -> Revision:
        """
        :raises ValueError: or KeyError, TypeError: when the data is none.
        """
        head, _, text = data.decode().partition("\n")
        if not head.startswith(_HEAD):
            raise ValueError("its first line does not say which workflow it is of")
        facts: dict[str, Any] = json.loads(head[len(_HEAD) :])
        known = {name: facts[name] for name in _FACTS}
        uuid.UUID(known["workflow_id"])
        known["former"] = tuple(known["former"])
        return cls(**known, number=number, text=text)


def folder_of(name: str) -> str:
    """The folder of a workflow's revisions: one for all names that would be one DAG, or differ in case only."""
    return safe_name(dag_id_of(name.lower()).lower())


def source_of(folder: str) -> str:
    return f"{ROOT}/{folder}{WORKFLOW_SUFFIX}"


def key_of(folder: str, number: int) -> str:
    return f"{ROOT}/{folder}/{number}.yaml"
