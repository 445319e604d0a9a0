"""MAPs: register, list, describe, unregister."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException, Response

from airflow_monai import settings
from airflow_monai.api.app_server.jobs import Limit, Offset
from airflow_monai.api.app_server.map_models import (
    DescribedMap,
    MapPage,
    MapSummary,
    NewMap,
    RegisteredNow,
    RegistrationStatus,
    Revision,
)
from airflow_monai.api.app_server.map_names import registry_of
from airflow_monai.api.app_server.registering import registrar
from airflow_monai.api.common.access import Right, TheCaller, needs
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.common.wording import without_places
from airflow_monai.api.instances.runs import visible_dags
from airflow_monai.api.runs import site_store
from airflow_monai.errors import MapNotFound, MonaiError
from airflow_monai.maps.doubts import doubts_of, is_secret
from airflow_monai.maps.facts import facts_of
from airflow_monai.maps.inspection import inspect_registered
from airflow_monai.maps.policy import Policy
from airflow_monai.maps.registration import Registration, Wanted
from airflow_monai.maps.registrations import Asked, AskedState, Progress
from airflow_monai.maps.registry import MapKind, RegisteredMap, split_label
from airflow_monai.maps.workflows import dag_id
from airflow_monai.store.base import Store

router = APIRouter(prefix="/app-server/maps", tags=["App Server: MAPs"])
_HIDDEN = "(not shown)"
_OF_THE_SITE = ("location", "reference")  # paths of folders


@router.post(
    "",
    status_code=201,
    summary="Register a MAP",
    operation_id="register_map",
    dependencies=[needs(Right.EDIT_WORKFLOWS)],
    responses={
        200: {"model": RegisteredNow, "description": "The same is registered already"},
        202: {"model": RegistrationStatus, "description": "It takes long; the Location tells how far it is"},
        **responses(400, 404, 409, 503),
    },
)
def register_map(new: NewMap, response: Response, caller: TheCaller) -> RegisteredNow | RegistrationStatus:
    """It is pinned to what the reference means now, and its workflow is a DAG a few seconds later."""
    store = site_store()
    exports = None if new.export_destinations is None else tuple(new.export_destinations)
    wanted = Wanted(new.name, new.version, new.ae_title, exports, new.use_gpu, new.replace)
    done = registrar.register(Asked(new.image or "", new.folder or "", wanted, new.pull, caller.name), store)
    if isinstance(done, Progress):
        note(caller, "monai.map.ask", extra={"registration": done.id})  # registering.py notes what came of it
        response.status_code = 202
        response.headers["Location"] = f"maps/registrations/{done.id}"
        return _status(done)
    if done.is_new:
        note(caller, "monai.map.register", dag_id=done.plan.dag_id, extra={"map": done.record.label})
    else:
        response.status_code = 200
    return _registered_now(done)


@router.get("", summary="List MAPs", operation_id="list_maps", responses=responses(400))
def list_maps(caller: TheCaller, limit: Limit = 50, offset: Offset = 0) -> MapPage:
    """The registered MAPs that the caller may see. One that was unregistered is not among them."""
    with create_session() as session:
        dag_ids = visible_dags(caller, Right.SEE_WORKFLOWS, session)
    found = [
        record
        for record in registry_of(site_store()).listing().registered()
        if dag_ids is None or dag_id(record) in dag_ids
    ]
    shown = [_summary(record) for record in found[offset : offset + limit]]
    return MapPage(maps=shown, total=len(found), offset=offset, limit=limit)


@router.get(
    "/registrations/{number}",
    summary="Tell how far a registration is",
    operation_id="get_registration",
    dependencies=[needs(Right.EDIT_WORKFLOWS)],
    responses=responses(404),
)
def show_registration(number: str) -> RegistrationStatus:
    """Of one that was answered 202."""
    found = registrar.look(number, site_store())
    if found is None:
        raise HTTPException(404, "There is no such registration.")
    return _status(found)


@router.get("/{name}/{version}", summary="Describe a MAP", operation_id="describe_map", responses=responses(404))
def describe_map(name: str, version: str, caller: TheCaller) -> DescribedMap:
    """All that is known of it: both manifests, resources, what is doubtful, and its history. Of one that was
    unregistered too."""
    store = site_store()
    record = _find(store, name, version)
    caller.check(Right.SEE_WORKFLOWS, dag_id(record))
    history = registry_of(store).history(record.name, record.version)
    return DescribedMap(
        **_summary(record).model_dump(),
        image=record.location if record.kind is MapKind.IMAGE else None,
        repo_digest=record.repo_digest or None,
        facts=_facts(store, record),
        app=_shown(_json(record.app)),
        pkg=_json(record.pkg),
        history=[_revision(item) for item in history],
    )


@router.delete(
    "/{name}/{version}",
    status_code=204,
    summary="Unregister a MAP",
    operation_id="unregister_map",
    responses=responses(404),
)
def unregister_map(name: str, version: str, caller: TheCaller) -> None:
    """No job is run for it any more. Those that run end normally, and what they made stays."""
    store = site_store()
    record = _find(store, name, version)
    caller.check(Right.EDIT_WORKFLOWS, dag_id(record))
    try:
        _, is_new = registry_of(store).unregister(record.name, record.version, by=caller.name)
    except MapNotFound:
        raise HTTPException(404, "There is no such registered MAP.") from None
    if is_new:
        note(caller, "monai.map.unregister", dag_id=dag_id(record), extra={"map": record.label})


def _find(store: Store, name: str, version: str) -> RegisteredMap:
    parts = split_label(f"{name}:{version}")
    record = registry_of(store).newest(*parts) if parts == (name, version) else None
    if record is None:
        raise HTTPException(404, "There is no such registered MAP.")
    return record


def _summary(record: RegisteredMap) -> MapSummary:
    return MapSummary(
        map=record.label,
        name=record.name,
        version=record.version,
        kind=record.kind.value,
        digest=record.digest,
        ae_title=record.ae_title,
        export_destinations=list(record.export_destinations),
        use_gpu=record.use_gpu,
        workflow=dag_id(record),
        registered=record.is_registered,
        registered_at=_time(record.registered_at or record.changed_at),
        registered_by=record.registered_by,
    )


def _registered_now(done: Registration) -> RegisteredNow:
    return RegisteredNow(**_summary(done.record).model_dump(), created_now=done.is_new, beside=list(done.beside))


def _status(progress: Progress) -> RegistrationStatus:
    if progress.state is AskedState.DONE:
        return RegistrationStatus(id=progress.id, state=progress.state, map=progress.label, created_now=progress.is_new)
    if progress.state is AskedState.FAILED:
        return RegistrationStatus(id=progress.id, state=progress.state, status=progress.status, detail=progress.detail)
    return RegistrationStatus(id=progress.id, state=progress.state)


def _revision(record: RegisteredMap) -> Revision:
    return Revision(
        revision=record.revision,
        registered=record.is_registered,
        changed_at=_time(record.changed_at),
        changed_by=record.changed_by,
        digest=record.digest,
        ae_title=record.ae_title,
        export_destinations=list(record.export_destinations),
    )


def _facts(store: Store, record: RegisteredMap) -> dict[str, Any]:
    from airflow_monai.gpu.inventory import load_inventory

    site = settings.load()
    try:
        inspected, inventory = inspect_registered(record), load_inventory(store)
        doubts = doubts_of(inspected, inventory=inventory, policy=Policy.of(site), use_gpu=record.use_gpu)
        facts = facts_of(inspected, inventory, doubts)
    except MonaiError as error:
        return {"problems": [{"level": "error", "field": "", "message": without_places(str(error))}]}
    facts["environment"] = {name: _HIDDEN if is_secret(name) else value for name, value in facts["environment"].items()}
    return {name: value for name, value in facts.items() if name not in _OF_THE_SITE}


def _shown(app: dict[str, Any]) -> dict[str, Any]:
    environment = app.get("environment")
    if not isinstance(environment, dict):
        return app
    return {**app, "environment": {name: _HIDDEN if is_secret(name) else value for name, value in environment.items()}}


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.fromtimestamp(0, timezone.utc)
