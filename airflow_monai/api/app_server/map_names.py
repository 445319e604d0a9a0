"""The MAP that a DAG runs. What a DAG id stands for never changes, so it is looked up once."""

from __future__ import annotations

import threading

from airflow_monai.maps.registry import MapRegistry, RegisteredMap, split_label
from airflow_monai.maps.workflows import PREFIX, workflow_name
from airflow_monai.specs.compile import dag_id_of
from airflow_monai.store.base import Store


def dag_id_for(label: str) -> str | None:
    """The DAG of the registered MAP ``name:version``; None for a text that cannot be one."""
    parts = split_label(label)
    return dag_id_of(f"{PREFIX}{parts[0]}.{parts[1]}") if parts else None


def registry_of(store: Store) -> MapRegistry:
    """The registry of a store; revisions, which never change, are read once by this process."""
    found = _registries.get(store.url)
    if found is None:
        found = _registries.setdefault(store.url, MapRegistry(store))
    return found


_registries: dict[str, MapRegistry] = {}


class MapNames:
    """DAG id -> ``name:version``. Safe for threads."""

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._lock = threading.Lock()

    def label(self, store: Store, dag_id: str) -> str:
        """The MAP of a DAG; what its id says where no such MAP was ever registered."""
        found = self._labels.get(dag_id)
        if found is None:
            with self._lock:
                self._labels |= {_dag_id(record): record.label for record in registry_of(store).listing().maps}
                found = self._labels.setdefault(dag_id, dag_id.removeprefix(PREFIX))
        return found


def _dag_id(record: RegisteredMap) -> str:
    return dag_id_of(workflow_name(record))
