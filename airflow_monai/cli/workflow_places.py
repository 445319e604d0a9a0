"""Where registered workflows are, as the commands see it: in this host's store, or on a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from airflow_monai.errors import WorkflowNotFound

Row = dict[str, Any]


class Workflows(ABC):
    """Where the workflows are. What is asked by name or id is found by either."""

    @abstractmethod
    def listed(self) -> list[Row]:
        """All: workflow_id, name, revision, version, status, origin, ae_title; ``workflow`` where it is at hand."""

    @abstractmethod
    def definition(self, row: Row) -> dict[str, Any]: ...

    @abstractmethod
    def revisions(self, row: Row) -> list[Row]:
        """revision, version, changed_at, changed_by of each."""

    @abstractmethod
    def register(self, data: bytes, is_json: bool) -> Row:
        """workflow_id, revision."""

    @abstractmethod
    def update(self, row: Row, data: bytes, is_json: bool) -> Row: ...

    @abstractmethod
    def delete(self, row: Row) -> None: ...

    @abstractmethod
    def validate(self, data: bytes, is_json: bool) -> None: ...

    def one(self, wanted: str) -> Row:
        """
        :raises WorkflowNotFound: when there is none of this id or name.
        """
        lower = wanted.strip().lower()
        for row in self.listed():
            if lower in (row["workflow_id"], row["name"].lower()):
                return row
        raise WorkflowNotFound(f"There is no workflow {wanted!r}.")
