"""What a MAP is: a registered one, or the one that a task ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import HTMLResponse

from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.page import HEADERS, code, heading, link, listing, marked, page, part, row, size, table
from airflow_monai.api.runs import FoundTask, site_store
from airflow_monai.errors import MonaiError
from airflow_monai.maps.doubts import is_secret
from airflow_monai.maps.manifest import Manifest
from airflow_monai.maps.registry import MapRegistry, RegisteredMap, split_label
from airflow_monai.maps.workflows import dag_id, workflow_name
from airflow_monai.store.base import Store
from airflow_monai.store.runs import MAP_NOTE

router = APIRouter(prefix="/maps", dependencies=[Depends(requires_access_dag("GET"))])
Reader = Annotated[BaseUser, Depends(get_user)]


@router.get("")
def show_maps(user: Reader) -> HTMLResponse:
    """The registered MAPs that the reader may see."""
    from airflow_monai.operators.links import monai_base

    every = MapRegistry(site_store()).listing().maps
    visible = Caller(user).of_dags(Right.SEE_WORKFLOWS, {dag_id(record) for record in every})
    maps = [record for record in every if dag_id(record) in visible]
    rows = (
        (
            link(f"{monai_base()}/maps/{part(record.name)}/{part(record.version)}", record.label),
            "registered" if record.is_registered else "unregistered",
            record.ae_title,
            ", ".join(record.export_destinations) or "-",
            record.registered_at[:19].replace("T", " "),
        )
        for record in maps
    )
    body = listing(("MAP", "State", "AE title", "Exports", "Registered"), rows) if maps else "<p>None yet.</p>"
    return HTMLResponse(page("Registered MAPs", body), headers=HEADERS)


@router.get("/{name}/{version}")
def show_registered(name: str, version: str, user: Reader) -> HTMLResponse:
    """The newest revision of a registered MAP."""
    registry = MapRegistry(site_store())
    record = registry.newest(name, version) if split_label(f"{name}:{version}") else None
    if record is None:
        raise HTTPException(404, "There is no such registered MAP.")
    Caller(user).check(Right.SEE_WORKFLOWS, dag_id(record))
    body = "".join(_registered(record, registry.history(name, version)))
    return HTMLResponse(page(record.label, body), headers=HEADERS)


def ran_page(found: FoundTask) -> HTMLResponse:
    """The MAP that a task ran, or is running."""
    return HTMLResponse(page(f"Application of {found.place.task_id}", *_ran(found)), headers=HEADERS)


def _ran(found: FoundTask) -> Iterator[str]:
    store, stats = found.folder.store, dict(found.record.stats) if found.record else {}
    reference, location = str(stats.get("map") or ""), str(stats.get("location") or "")
    noted = _noted(found)
    if noted is not None:
        yield from _registered(noted, MapRegistry(store).history(noted.name, noted.version))
        return
    if not reference:
        yield table(row("MAP", "The task has not told yet what it ran."))
        return
    yield table(row("MAP", code(reference)), row("Was", code(location)))
    manifest = _cached_manifest(store, location, reference)
    if manifest is None:
        yield "<p>It is not registered, and its manifests are not at hand.</p>"
        return
    yield from _manifest(manifest)


def _noted(found: FoundTask) -> RegisteredMap | None:
    """The registered revision that the task's newest generation began with."""
    place, folder = found.place, found.folder
    generation = found.record.generation if found.record else 1
    key = folder.note_key(place.task_id, place.map_index, generation, MAP_NOTE)
    if not folder.store.exists(key):
        return None
    note = folder.store.read_json(key)
    parts = split_label(str(note["label"]))
    return MapRegistry(folder.store).revision(*parts, int(note["revision"])) if parts else None


def _cached_manifest(store: Store, location: str, reference: str) -> Manifest | None:
    from airflow_monai.maps.runners.docker.manifest import cached_manifests

    try:
        files = cached_manifests(store, location, reference)
        return files.parsed() if files else None
    except MonaiError:
        return None


def _registered(record: RegisteredMap, history: list[RegisteredMap]) -> Iterator[str]:
    state = "registered" if record.is_registered else marked("warning", f"not registered since {record.changed_at}")
    yield table(
        row("MAP", record.label),
        row("State", state),
        row(record.kind.value.capitalize(), code(record.location)),
        row("Digest", code(record.digest)),
        *([row("In its registry", code(record.repo_digest))] if record.repo_digest else []),
        row("Workflow", code(workflow_name(record))),
        row("AE title", code(record.ae_title)),
        row("Exports", ", ".join(record.export_destinations) or "none"),
    )
    try:
        yield from _manifest(record.manifest())
    except MonaiError as error:
        yield f"<p>{marked('error', error)}</p>"
    yield heading("History")
    yield listing(
        ("Revision", "What", "When", "By"),
        (
            (
                item.revision,
                "registered" if item.is_registered else "unregistered",
                item.changed_at,
                item.changed_by or "-",
            )
            for item in history
        ),
    )


def _manifest(manifest: Manifest) -> Iterator[str]:
    resources = manifest.resources
    limit = f"{manifest.timeout_seconds:g} s" if manifest.timeout_seconds else "none"
    share = f", {size(resources.gpu_memory_bytes)} of it" if resources.gpu_memory_bytes else ""
    yield heading("What is run")
    yield table(
        row("Command", code(json.dumps(list(manifest.command)))),
        row("Working directory", code(manifest.working_directory)),
        row("Input, output", code(f"{manifest.input_path}, {manifest.output_path}")),
        row("Models", ", ".join(manifest.models) or "none"),
        row("Version", f"{manifest.version or '-'} {manifest.sdk}"),
        row("Time limit", limit),
        row("Cores", f"{resources.cpu:g}"),
        row("Memory", f"{size(resources.memory_bytes)}, shared {size(resources.shared_memory_bytes)}"),
        row("GPU", f"{resources.gpu:g}{share}" if resources.gpu or resources.gpu_memory_bytes else "none"),
    )
    if manifest.environment:
        yield heading("Environment of its manifest")
        yield table(*(row(name, _value(name, value)) for name, value in sorted(manifest.environment.items())))


def _value(name: str, value: str) -> Any:
    return "(not shown)" if is_secret(name) else code(value)
