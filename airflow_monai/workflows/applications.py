"""Which AE title an application is sent to, and which sinks its results go to.

An application is a registered MAP, or a registered workflow; one that lives in a file of the site is changed there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from airflow_monai.errors import InvalidArgument, MapNotFound, WorkflowNotFound
from airflow_monai.maps.inspection import inspect_registered
from airflow_monai.maps.registration import Wanted, register
from airflow_monai.maps.registry import MapRegistry, RegisteredMap
from airflow_monai.store.base import Store
from airflow_monai.workflows.catalog import Catalog, Known
from airflow_monai.workflows.definition import Body, as_json
from airflow_monai.workflows.registration import Registration
from airflow_monai.workflows.registry import WorkflowRegistry

Definition = dict[str, Any]
_GATEWAY, _DESTINATIONS = "informatics_gateway", "export_destinations"


@dataclass(frozen=True, slots=True)
class Mapped:
    """How an application is mapped now.

    :param changed: False where it was so before.
    """

    application: str
    dag_id: str
    ae_title: str
    sinks: tuple[str, ...]
    changed: bool


class Applications:
    """
    :param catalog: all workflows of the site.
    :param by: who changes something.
    """

    def __init__(self, store: Store, catalog: Catalog, by: str):
        self._maps = MapRegistry(store)
        self._workflows = WorkflowRegistry(store)
        self._catalog = catalog
        self._by = by

    def map_ae(self, application: str, ae_title: str) -> Mapped:
        """Have studies that are sent to an AE title run the application, and those sent to its former one not.

        :raises MonaiError: saying why it cannot be.
        """
        record = self._map(application)
        if record is not None:
            return self._changed_map(record, Wanted(ae_title=ae_title))
        return self._changed_workflow(application, lambda definition: _gateway(definition).update(ae_title=ae_title))

    def map_sink(self, application: str, sink: str, *, remove: bool = False) -> Mapped:
        """Have the application's results delivered to one more sink, or to it no longer.

        :raises MonaiError: saying why it cannot be.
        """
        record = self._map(application)
        if record is not None:
            wanted = _with(record.export_destinations, sink, remove)
            return self._changed_map(record, Wanted(export_destinations=wanted))
        return self._changed_workflow(application, lambda definition: _deliver(definition, sink, remove))

    def _map(self, application: str) -> RegisteredMap | None:
        try:
            record = self._maps.resolve(application)
        except MapNotFound:
            if ":" in application or self._maps_named(application):
                raise
            return None
        if not record.is_registered:
            raise MapNotFound(f"The MAP {record.label} is not registered any more.")
        return record

    def _maps_named(self, name: str) -> bool:
        return any(record.name == name for record in self._maps.listing().registered())

    def _changed_map(self, record: RegisteredMap, change: Wanted) -> Mapped:
        wanted = replace(change, name=record.name, version=record.version, replace=True)
        done = register(self._maps, inspect_registered(record), wanted, self._catalog.plans())
        now = done.record
        return Mapped(now.label, done.plan.dag_id, now.ae_title, now.export_destinations, now != record)

    def _changed_workflow(self, name: str, change: Callable[[Definition], object]) -> Mapped:
        try:
            known = self._catalog.of_name(name)
        except WorkflowNotFound:
            raise InvalidArgument(
                f"There is no registered MAP {name!r} and no workflow of this name: see `airflow monai maps list`."
            ) from None
        known.editable()
        before = self._catalog.definition(known)
        after = deepcopy(before)
        change(after)
        if after != before:
            registration = Registration(self._workflows, self._catalog.plans)
            registration.update(known.workflow_id, Body(after, as_json(after)), self._by)
        return _mapped(known, after, after != before)


def _mapped(known: Known, definition: Mapping[str, Any], changed: bool) -> Mapped:
    gateway = definition.get(_GATEWAY) or {}
    return Mapped(
        known.name,
        known.dag_id,
        str(gateway.get("ae_title") or ""),
        tuple(gateway.get(_DESTINATIONS) or ()),
        changed,
    )


def _gateway(definition: Definition) -> Definition:
    gateway = definition.setdefault(_GATEWAY, {})
    if not isinstance(gateway, dict):
        raise InvalidArgument("The workflow's informatics_gateway is no mapping.")
    return gateway


def _deliver(definition: Definition, sink: str, remove: bool) -> None:
    """Name a sink in the gateway's part and in the one task that exports."""
    exports = [task for task in definition.get("tasks") or () if task.get("type") == "export"]
    if len(exports) != 1:
        many = f"{len(exports)} export tasks" if exports else "no export task"
        raise InvalidArgument(f"The workflow has {many}: say in its definition what goes to {sink!r}, and update it.")
    gateway, (task,) = _gateway(definition), exports
    gateway[_DESTINATIONS] = list(_with(gateway.get(_DESTINATIONS) or (), sink, remove))
    named = [item.get("name") for item in task.get(_DESTINATIONS) or ()]
    kept = {item.get("name"): item for item in task.get(_DESTINATIONS) or ()}
    task[_DESTINATIONS] = [kept.get(name) or {"name": name} for name in _with(named, sink, remove)]
    if not task[_DESTINATIONS]:
        raise InvalidArgument(f"The export task {task.get('id')!r} would have no destination left.")


def _with(names: Any, name: str, remove: bool) -> tuple[str, ...]:
    others = tuple(other for other in names if other != name)
    if remove and len(others) == len(tuple(names)):
        raise InvalidArgument(f"Nothing goes to {name!r} there.")
    return others if remove else (tuple(names) if name in names else (*others, name))
