"""What a task made: its artifacts, to look at and to fetch, and its application's whole log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import HTMLResponse, Response

from airflow_monai.api.common.access import Caller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.downloads import send_object
from airflow_monai.api.maps import ran_page
from airflow_monai.api.page import HEADERS, Html, code, heading, link, listing, marked, page, part, row, size, table
from airflow_monai.api.runs import FoundTask, TaskPlace, find_task
from airflow_monai.types import TaskRecord

MAX_SHOWN = 200
"""Files of one artifact that the page lists; the others are counted, and can be fetched by their numbers."""

router = APIRouter(prefix="/dags/{dag_id}/runs/{run_id}/tasks/{task_id}")
MapIndex = Annotated[int, Query(ge=-1, le=100_000)]

Reader = Annotated[BaseUser, Depends(get_user)]

may_see = [Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))]
may_read = [*may_see, Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))]
"""Files, their names and logs may tell of a patient: who reads them needs the right to read task logs, too."""


@router.get("", dependencies=may_read)
def show_task(dag_id: str, run_id: str, task_id: str, user: Reader, map_index: MapIndex = -1) -> HTMLResponse:
    """The task's artifacts."""
    found = find_task(TaskPlace(dag_id, run_id, task_id, map_index))
    _noted(user, "monai.artifacts.list", found)
    series = f", series {map_index + 1}" if map_index >= 0 else ""
    about = f"{task_id}{series} of {dag_id}, run {run_id}"
    if found.record is None:
        body = table(row("State", "It has not ended yet: what it makes is shown then."))
    else:
        body = "".join(_parts(found, found.record))
    return HTMLResponse(page(f"Artifacts of {task_id}", body, note=about), headers=HEADERS)


@router.get("/map", dependencies=may_see)
def show_map(dag_id: str, run_id: str, task_id: str, map_index: MapIndex = -1) -> HTMLResponse:
    """The MAP that the task ran, exactly."""
    return ran_page(find_task(TaskPlace(dag_id, run_id, task_id, map_index)))


@router.get("/log", dependencies=may_read)
def fetch_log(dag_id: str, run_id: str, task_id: str, user: Reader, map_index: MapIndex = -1) -> Response:
    """The application's whole log."""
    found = find_task(TaskPlace(dag_id, run_id, task_id, map_index))
    key = found.log_key()
    if key is None:
        raise HTTPException(404, "The store holds no log of this task.")
    _noted(user, "monai.log.read", found)
    return send_object(found.folder.store, key, media_type="text/plain; charset=utf-8", filename=key, inline=True)


@router.get("/artifacts/{artifact}/{number}", dependencies=may_read)
def fetch_file(
    dag_id: str, run_id: str, task_id: str, artifact: str, number: int, user: Reader, map_index: MapIndex = -1
) -> Response:
    """A file of an artifact, by its number in the task's record."""
    found = find_task(TaskPlace(dag_id, run_id, task_id, map_index))
    keys = found.record.artifacts.get(artifact, ()) if found.record else ()
    if not 0 <= number < len(keys) or not found.is_ours(keys[number]):
        raise HTTPException(404, "The task has no such file.")
    _noted(user, "monai.artifact.read", found, artifact=artifact, number=number)
    return send_object(found.folder.store, keys[number], media_type="application/octet-stream", filename=keys[number])


def _noted(user: BaseUser, event: str, found: FoundTask, **extra: Any) -> None:
    place = found.place
    note(
        Caller(user),
        event,
        dag_id=place.dag_id,
        run_id=place.run_id,
        task_id=place.task_id,
        map_index=place.map_index,
        extra=extra,
    )


def _parts(found: FoundTask, record: TaskRecord) -> Iterator[str]:
    yield table(*_facts(found, record))
    for name, keys in record.artifacts.items():
        yield heading(f"{name}: {len(keys)} file{'' if len(keys) == 1 else 's'}")
        if keys:
            yield listing(("File", "Size", ""), _files(found, record, name, keys), numbers=(1,))
        if len(keys) > MAX_SHOWN:
            yield f"<p>and {len(keys) - MAX_SHOWN} more</p>"
    if record.result:
        yield heading("Result")
        count = f"{len(record.result)} value{'' if len(record.result) == 1 else 's'}"
        yield f"<p>The application's metadata.json names {count}, which stay in the store.</p>"


def _facts(found: FoundTask, record: TaskRecord) -> Iterator[str]:
    failed = record.status.value in ("Failed", "PartialFail")
    yield row("State", marked("error", record.status.value) if failed else record.status.value)
    if record.error_msg:
        yield row("Error", marked("error", record.error_msg))
    yield row("From, to", f"{_time(record.start_time)} - {_time(record.end_time)}")
    yield row("Generation, try", f"{record.generation}, {record.try_number}")
    for name, value in sorted(record.stats.items()):
        if isinstance(value, int) and name.endswith("_bytes"):
            yield row(name.removesuffix("_bytes").replace("_", " "), size(value))
        elif isinstance(value, (str, int, float, bool)):
            yield row(name.replace("_", " "), code(value))
    base = _address(found.place)
    if found.record and ("map" in record.stats or record.task_type == "map"):
        yield row("Application", link(f"{base}/map{_index(found.place)}", "what exactly was run"))
    key = found.log_key()
    if key:
        shown = link(f"{base}/log{_index(found.place)}", "the application's whole log")
        yield row("Log", Html(f"{shown} ({size(found.folder.store.size(key))})"))


def _files(found: FoundTask, record: TaskRecord, name: str, keys: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    prefix = f"{record.output_dir}/" if record.output_dir else ""
    base, index = _address(found.place), _index(found.place)
    for number, key in enumerate(keys[:MAX_SHOWN]):
        shown = key.removeprefix(prefix)
        there = found.is_ours(key) and found.folder.store.exists(key)
        if not there:
            yield code(shown), "-", "not in the store any more"
            continue
        address = f"{base}/artifacts/{part(name)}/{number}{index}"
        yield code(shown), size(found.folder.store.size(key)), link(address, "download")


def _address(place: TaskPlace) -> str:
    """Of the task's page, seen from the server's root."""
    from airflow_monai.operators.links import monai_page

    return monai_page(place.dag_id, place.run_id, place.task_id)


def _index(place: TaskPlace) -> str:
    return f"?map_index={place.map_index}" if place.map_index >= 0 else ""


def _time(text: str | None) -> str:
    return (text or "-")[:19].replace("T", " ")
