"""What the routes of workflows take and give.

A definition comes bare or, as the shipped Workflow Manager has it, within a field ``workflow``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from pydantic import BaseModel, Field

from airflow_monai.api.common.problems import ApiProblem, FieldError
from airflow_monai.errors import SpecError, WorkflowConflict, WorkflowNotFound
from airflow_monai.specs.problems import Problem
from airflow_monai.specs.tree.loader import MAX_BYTES
from airflow_monai.workflows.catalog import Known
from airflow_monai.workflows.definition import Body, read_body
from airflow_monai.workflows.record import Revision

DOCUMENT_VERSION = "1.0.0"
"""Of the form of a WorkflowRevision, as the shipped API has it in its field ``Version``."""
_MOST = MAX_BYTES + 10_000
"""Bytes of a body: a definition, and what stands around it."""
_JSON = frozenset({"application/json", "text/json"})
_YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"})
_ID = "6f1d7c1e-3a0b-4d4e-9c55-0d6f0a5b7e21"

EXAMPLE = {
    "name": "ct-lung",
    "version": "1.0.0",
    "description": "Finds lungs in CT studies.",
    "informatics_gateway": {"ae_title": "CTLUNG", "export_destinations": ["MAINPACS"]},
    "tasks": [
        {
            "id": "to-pacs",
            "type": "export",
            "export_destinations": [{"name": "MAINPACS"}],
            "artifacts": {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]},
        }
    ],
}


class Registered(BaseModel):
    """What a registered workflow is known by from now on."""

    id: str = Field(examples=[_ID])


class Updated(BaseModel):
    """The new revision."""

    id: str = Field(examples=[_ID])
    version_id: str = Field(examples=["2"])


class Listed(BaseModel):
    """A workflow in the bare list."""

    workflow_id: str = Field(examples=[_ID])
    version_id: str = Field(examples=["2"])
    status: str = Field(examples=["active"])


class WorkflowRevision(BaseModel):
    """A revision with its definition.

    Of a deleted workflow ``deleted`` says when. ``origin`` says what it is made of: it is ``registered`` here, or lives
    in a ``file`` of the site, or is made of a registered ``map``.
    """

    id: str
    Version: str = Field(examples=[DOCUMENT_VERSION])
    workflow_id: str = Field(examples=[_ID])
    revision: int = Field(examples=[2])
    workflow: dict[str, Any] = Field(examples=[EXAMPLE])
    status: str | None = Field(default=None, examples=["active"])
    origin: str | None = Field(default=None, examples=["registered"])
    changed_at: str | None = None
    changed_by: str | None = None
    deleted: str | None = None


def revision_of(known: Known, definition: dict[str, Any]) -> WorkflowRevision:
    record = known.record
    return WorkflowRevision(
        id=known.revision_id,
        Version=DOCUMENT_VERSION,
        workflow_id=known.workflow_id,
        revision=known.revision,
        workflow=definition,
        status=known.status.value,
        origin=known.origin.value,
        changed_at=record.changed_at if record else None,
        changed_by=record.changed_by if record else None,
    )


def revision_of_record(record: Revision, definition: dict[str, Any], deleted: str | None) -> WorkflowRevision:
    return WorkflowRevision(
        id=record.id,
        Version=DOCUMENT_VERSION,
        workflow_id=record.workflow_id,
        revision=record.revision,
        workflow=definition,
        changed_at=record.changed_at,
        changed_by=record.changed_by,
        deleted=deleted,
    )


class Sent:
    """A request's body, and what language it is in."""

    def __init__(self, data: bytes, is_json: bool):
        self._data, self._is_json = data, is_json

    def body(self) -> Body:
        """
        :raises ApiProblem: 400 with all that is wrong, when it cannot be read.
        """
        with answered():
            return read_body(self._data, is_json=self._is_json)


async def _sent(request: Request) -> Sent:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind in _JSON or kind.endswith("+json")
    if kind and not is_json and kind not in _YAML:
        raise HTTPException(415, "A workflow's definition comes as application/json or as application/yaml.")
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _MOST:
            raise HTTPException(413, f"A workflow's definition has at most {MAX_BYTES} bytes.")
    return Sent(bytes(data), is_json or (not kind and data.lstrip()[:1] == b"{"))


TheBody = Annotated[Sent, Depends(_sent)]
"""A route's parameter: the definition that the request brings."""

BODY_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": EXAMPLE},
            "application/yaml": {"schema": {"type": "string"}},
        },
    }
}
"""For the documentation of a route that takes one."""


@contextmanager
def answered(body: Body | None = None) -> Iterator[None]:
    """Have what is wrong with a definition, or in its way, answered as such.

    :param body: what the request brought, once that could be read.
    """
    try:
        yield
    except WorkflowNotFound as error:
        raise HTTPException(404, str(error)) from None
    except WorkflowConflict as error:
        errors = [FieldError(field=_field(error.field, body), message=str(error))] if error.field else []
        raise ApiProblem(409, str(error), errors) from None
    except SpecError as error:
        raise ApiProblem(400, str(error), [_told(problem, body) for problem in error.problems]) from None


def _told(problem: Problem, body: Body | None) -> FieldError:
    return FieldError(
        field=_field(problem.path, body),
        message=problem.message,
        hint=problem.hint,
        line=problem.line or None,
        column=problem.column or None,
    )


def _field(path: str, body: Body | None) -> str:
    within = "workflow" if body is not None and body.is_within and path != "original_workflow_name" else ""
    return ".".join(part for part in ("body", within, path) if part)
