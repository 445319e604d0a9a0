"""Workflows: registering, updating, deleting, and what there is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Response

from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.api.workflow_manager.paging import Page, ThePaging
from airflow_monai.api.workflow_manager.seed_forms import (
    BODY_DOCS,
    Listed,
    Registered,
    Sent,
    TheBody,
    Updated,
    WorkflowRevision,
    answered,
    revision_of,
    revision_of_record,
)
from airflow_monai.errors import SpecError, WorkflowNotFound
from airflow_monai.specs.compile import dag_id_of
from airflow_monai.workflows.catalog import Catalog, Known
from airflow_monai.workflows.definition import Body, definition_of
from airflow_monai.workflows.record import Revision
from airflow_monai.workflows.registration import Registration
from airflow_monai.workflows.registry import WorkflowRegistry

_MOST_REVISIONS = 100
"""In a bare list."""

router = APIRouter(prefix=PREFIX, tags=["Workflow Manager: workflows"])


@router.post("/workflows", responses=responses(400, 409, 413, 415), openapi_extra=BODY_DOCS)
def register(caller: TheCaller, sent: TheBody) -> Registered:
    """Register a workflow. It is a DAG some seconds later, and takes what is sent to its AE title."""
    site = the_site()
    body = _editable_body(caller, sent)
    with answered(body):
        revision = site.registration.register(body, caller.name)
    _note(caller, "register", revision)
    return Registered(id=revision.workflow_id)


@router.post(
    "/workflows/validate",
    status_code=204,
    response_class=Response,
    responses=responses(400, 413, 415),
    openapi_extra=BODY_DOCS,
)
def validate(caller: TheCaller, sent: TheBody) -> None:
    """Whether a definition could be registered or, where its name is its ``original_workflow_name``, be an update."""
    site = the_site()
    body = _editable_body(caller, sent)
    with answered(body):
        site.registration.validate(body)


@router.get("/workflows", responses=responses(400))
def list_workflows(caller: TheCaller, paging: ThePaging) -> Page[WorkflowRevision] | list[Listed]:
    """The workflows that the caller may see, by name: a list, or a page of revisions where a page is asked for."""
    site = the_site()
    known = _seen(caller, site.catalog.all())
    if paging.is_asked:
        return paging.page(_revisions(site, paging.cut(known)), len(known))
    return [Listed(workflow_id=one.workflow_id, version_id=one.version_id, status=one.status.value) for one in known]


@router.get("/workflows/aetitle/{title}", responses=responses(400, 404))
def of_ae_title(caller: TheCaller, title: str, paging: ThePaging) -> Page[WorkflowRevision]:
    """The workflows that listen to an AE title."""
    wanted = title.strip()
    if not wanted:
        raise HTTPException(400, "An AE title is not blank.")
    site = the_site()
    known = [one for one in _seen(caller, site.catalog.all()) if one.ae_title == wanted]
    if not known:
        raise HTTPException(404, "No workflow listens to this AE title.")
    return paging.page(_revisions(site, paging.cut(known)), len(known))


@router.get("/workflows/{workflow_id}", responses=responses(400, 404))
def one_workflow(caller: TheCaller, workflow_id: UUID) -> WorkflowRevision:
    """The newest revision of a workflow."""
    site = the_site()
    known = _visible(caller, site, workflow_id)
    return _revision(site, known)


@router.put("/workflows/{workflow_id}", responses=responses(400, 404, 409, 413, 415), openapi_extra=BODY_DOCS)
def update(caller: TheCaller, workflow_id: UUID, sent: TheBody) -> Updated:
    """Make a new revision. A bare definition may be a part of one: the attributes that it names are replaced, one
    without a value is taken out. One within a field ``workflow`` replaces the whole. Runs under way go on as they
    began.
    """
    site = the_site()
    known = _visible(caller, site, workflow_id)
    caller.check(Right.EDIT_WORKFLOWS, known.dag_id)
    with answered():
        record = known.editable()
    body = sent.body()
    with answered(body):
        revision = site.registration.update(record.workflow_id, body, caller.name)
    _note(caller, "update", revision)
    return Updated(id=revision.workflow_id, version_id=str(revision.revision))


@router.delete("/workflows/{workflow_id}", response_class=Response, responses=responses(400, 404, 409))
def delete(caller: TheCaller, workflow_id: UUID) -> Response:
    """Have nothing start the workflow any more. Runs under way end as they would, and its history stays."""
    site = the_site()
    known = _visible(caller, site, workflow_id)
    caller.check(Right.EDIT_WORKFLOWS, known.dag_id)
    with answered():
        revision = site.registry.delete(known.editable().workflow_id, caller.name)
    _note(caller, "delete", revision)
    return Response(status_code=200)


@router.get("/workflows/{workflow_id}/revisions", responses=responses(400, 404))
def revisions(
    caller: TheCaller, workflow_id: UUID, paging: ThePaging
) -> Page[WorkflowRevision] | list[WorkflowRevision]:
    """The revisions of a workflow, the first one first, also of one that was deleted: the newest hundred, or a page of
    all where a page is asked for."""
    site, wanted = the_site(), str(workflow_id)
    try:
        history = site.registry.history(wanted)
    except WorkflowNotFound:
        only = [_revision(site, _visible(caller, site, workflow_id))]
        return paging.page_of(only) if paging.is_asked else only
    if not caller.may(Right.SEE_WORKFLOWS, history.last.dag_id):
        raise _none(wanted)
    start = paging.offset if paging.is_asked else len(history) - _MOST_REVISIONS
    shown = history.revisions(start, start + (paging.size if paging.is_asked else _MOST_REVISIONS))
    found = [revision_of_record(one, definition_of(one.text), history.deleted_at) for one in shown]
    return paging.page(found, len(history)) if paging.is_asked else found


@router.get("/workflow", responses=responses(400, 404))
def definition(
    caller: TheCaller,
    workflow_id: Annotated[UUID | None, Query(alias="id", description="Of the workflow.")] = None,
    name: Annotated[str | None, Query(description="Of the workflow, where its id is not given.")] = None,
) -> dict[str, Any]:
    """The definition of a workflow, by its id or its name."""
    site = the_site()
    if workflow_id is not None:
        return _definition(site, _visible(caller, site, workflow_id))
    if not name or not name.strip():
        raise HTTPException(400, "Say which workflow: ?id= or ?name=.")
    with answered():
        known = site.catalog.of_name(name)
    if not caller.may(Right.SEE_WORKFLOWS, known.dag_id):
        raise _none(name)
    return _definition(site, known)


class Site:
    """The workflows of this site."""

    def __init__(self, folder: str, store_url: str):
        from airflow_monai.store import open_store

        store = open_store(store_url)
        self.catalog = Catalog(folder, store)
        self.registry = WorkflowRegistry(store)
        self.registration = Registration(self.registry, self.catalog.plans)


_site = lru_cache(maxsize=4)(Site)


def the_site() -> Site:
    """The workflows of the site, as the settings say where they are."""
    from airflow_monai import settings

    here = settings.load()
    return _site(here.workflow_folder, here.store)


def _editable_body(caller: Caller, sent: Sent) -> Body:
    """The body, for a caller who may have a workflow of its name."""
    try:
        body = sent.body()
    except HTTPException:
        caller.check(Right.EDIT_WORKFLOWS)
        raise
    name = next((value for key, value in body.fields.items() if key.lower() == "name"), None)
    caller.check(Right.EDIT_WORKFLOWS, dag_id_of(name.strip()) if isinstance(name, str) and name.strip() else None)
    return body


def _seen(caller: Caller, known: Iterable[Known]) -> list[Known]:
    every = list(known)
    allowed = caller.of_dags(Right.SEE_WORKFLOWS, {one.dag_id for one in every})
    return [one for one in every if one.dag_id in allowed]


def _visible(caller: Caller, site: Site, workflow_id: UUID) -> Known:
    """
    :raises HTTPException: 404 when there is no such workflow, or the caller may not see it.
    """
    with answered():
        known = site.catalog.of_id(str(workflow_id))
    if not caller.may(Right.SEE_WORKFLOWS, known.dag_id):
        raise _none(str(workflow_id))
    return known


def _none(wanted: str) -> HTTPException:
    return HTTPException(404, f"There is no workflow {wanted!r}.")


def _revisions(site: Site, known: Iterable[Known]) -> list[WorkflowRevision]:
    return [_revision(site, one) for one in known]


def _revision(site: Site, known: Known) -> WorkflowRevision:
    return revision_of(known, _definition(site, known))


def _definition(site: Site, known: Known) -> dict[str, Any]:
    try:
        return site.catalog.definition(known)
    except SpecError:  # its file has become bad since it was last good
        return {"name": known.name}


def _note(caller: Caller, what: str, revision: Revision) -> None:
    extra = {"workflow_id": revision.workflow_id, "revision": revision.revision}
    note(caller, f"monai.workflow.{what}", dag_id=revision.dag_id, extra=extra)
