"""The workflows of this host's store and workflow folder, for ``airflow monai workflows``."""

from __future__ import annotations

from typing import Any

from airflow_monai.cli.workflow_places import Row, Workflows
from airflow_monai.errors import WorkflowNotFound
from airflow_monai.person import person_here
from airflow_monai.settings import Settings
from airflow_monai.store import open_store
from airflow_monai.workflows.catalog import Catalog, Known
from airflow_monai.workflows.definition import read_body
from airflow_monai.workflows.registration import Registration
from airflow_monai.workflows.registry import WorkflowRegistry


class LocalWorkflows(Workflows):
    """Those of this host's store and workflow folder."""

    def __init__(self, settings: Settings):
        store = open_store(settings.store)
        self._catalog = Catalog(settings.workflow_folder, store)
        self._registry = WorkflowRegistry(store)
        self._registration = Registration(self._registry, self._catalog.plans)

    def listed(self) -> list[Row]:
        return [_row(one) for one in self._catalog.all()]

    def definition(self, row: Row) -> dict[str, Any]:
        return self._catalog.definition(self._catalog.of_id(row["workflow_id"]))

    def revisions(self, row: Row) -> list[Row]:
        names = ("revision", "version", "changed_at", "changed_by")
        try:
            history = self._registry.history(row["workflow_id"])
        except WorkflowNotFound:
            return [{name: row.get(name, "") for name in names}]
        return [{name: getattr(one, name) for name in names} for one in history.revisions(0, len(history))]

    def register(self, data: bytes, is_json: bool) -> Row:
        done = self._registration.register(read_body(data, is_json=is_json), person_here())
        return {"workflow_id": done.workflow_id, "revision": done.revision}

    def update(self, row: Row, data: bytes, is_json: bool) -> Row:
        record = self._catalog.of_id(row["workflow_id"]).editable()
        done = self._registration.update(record.workflow_id, read_body(data, is_json=is_json), person_here())
        return {"workflow_id": done.workflow_id, "revision": done.revision}

    def delete(self, row: Row) -> None:
        self._registry.delete(self._catalog.of_id(row["workflow_id"]).editable().workflow_id, person_here())

    def validate(self, data: bytes, is_json: bool) -> None:
        self._registration.validate(read_body(data, is_json=is_json))


def _row(one: Known) -> Row:
    return {
        "workflow_id": one.workflow_id,
        "name": one.name,
        "revision": one.revision,
        "version": one.version,
        "status": one.status.value,
        "origin": one.origin.value,
        "ae_title": one.ae_title,
    }
