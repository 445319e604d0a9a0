"""Export sinks. A sink is an Airflow connection of one of the types that results can be delivered to."""

from __future__ import annotations

import json
import re
from typing import Any

from airflow.models.connection import Connection
from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from airflow_monai.api.common import audit
from airflow_monai.api.common.access import Right, TheCaller, needs
from airflow_monai.api.common.problems import responses
from airflow_monai.errors import DestinationError
from airflow_monai.hooks.base import described
from airflow_monai.sinks.registry import SINKS, open_sink

router = APIRouter(prefix="/workload-manager/sinks", tags=["Workload Manager: sinks"])
MAX_LISTED = 1000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_SECRETS = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)


class NewSink(BaseModel):
    """A sink to create."""

    name: str = Field(description="What workflows name it by.", examples=["OUTSIDE"], max_length=100)
    type: str = Field("monai_pull", description="The type of its Airflow connection.", examples=["monai_pull", "dicom"])
    host: str = Field("", max_length=500)
    port: int | None = Field(None, ge=1, le=65535)
    login: str = Field("", max_length=500)
    password: str = Field("", description="Never told again.", max_length=5000)
    extra: dict[str, Any] = Field({}, examples=[{"destinations": "PACS2"}])
    description: str = Field("", max_length=500)


class Sink(BaseModel):
    """A sink, without its secrets."""

    name: str = Field(examples=["OUTSIDE"])
    type: str = Field(examples=["monai_pull"])
    host: str = ""
    port: int | None = None
    extra: dict[str, Any] = Field({}, description="Values that may be secrets are not told.")
    description: str = ""


@router.post("", summary="Create a sink", operation_id="create_sink", responses=responses(400, 409))
def create_sink(sink: NewSink, caller: TheCaller) -> Sink:
    """Make a place that results can be delivered to: clients fetch from one of the type ``monai_pull``."""
    caller.check(Right.ADD_CONNECTIONS, sink.name)
    if not _NAME.fullmatch(sink.name):
        raise HTTPException(400, "A sink's name has letters, digits, '.', '_' and '-', 100 at most.")
    if sink.type not in SINKS:
        raise HTTPException(400, f"There is no sink of type {sink.type!r}: one of {', '.join(sorted(SINKS))}.")
    connection = Connection(
        conn_id=sink.name,
        conn_type=sink.type,
        host=sink.host or None,
        port=sink.port,
        login=sink.login or None,
        password=sink.password or None,
        description=sink.description or None,
        extra=json.dumps(sink.extra) if sink.extra else None,
    )
    try:
        open_sink(described(sink.name, connection, sink.extra))
    except DestinationError as error:
        raise HTTPException(400, str(error)) from None
    try:
        with create_session() as session:
            session.add(connection)
    except IntegrityError:
        raise HTTPException(409, f"There is an Airflow connection {sink.name!r} already.") from None
    audit.note(caller, "monai.sink.create", extra={"sink": sink.name, "type": sink.type})
    return _shown(sink.name, sink.type, sink.host, sink.port, sink.extra, sink.description)


@router.get(
    "",
    summary="List the sinks",
    operation_id="list_sinks",
    responses=responses(),
    dependencies=[needs(Right.SEE_CONNECTIONS)],
)
def list_sinks() -> list[Sink]:
    """Those of Airflow's database; a connection that comes from the environment or a secrets backend is not listed."""
    with create_session() as session:
        wanted = select(Connection).where(Connection.conn_type.in_(SINKS)).order_by(Connection.conn_id)
        return [_of(connection) for connection in session.scalars(wanted.limit(MAX_LISTED))]


@router.get("/{sink}", summary="Describe a sink", operation_id="get_sink", responses=responses(404))
def get_sink(sink: str, caller: TheCaller) -> Sink:
    """One sink, without its secrets."""
    caller.check(Right.SEE_CONNECTIONS, sink)
    with create_session() as session:
        wanted = select(Connection).where(Connection.conn_id == sink, Connection.conn_type.in_(SINKS))
        connection = session.scalar(wanted)
        if connection is None:
            raise HTTPException(404, "There is no such sink.")
        return _of(connection)


@router.delete(
    "/{sink}", summary="Delete a sink", operation_id="delete_sink", status_code=204, responses=responses(404)
)
def delete_sink(sink: str, caller: TheCaller) -> None:
    """An export task that names it fails from then on; what waits there is still fetched."""
    caller.check(Right.DELETE_CONNECTIONS, sink)
    with create_session() as session:
        wanted = select(Connection).where(Connection.conn_id == sink, Connection.conn_type.in_(SINKS))
        connection = session.scalar(wanted)
        if connection is None:
            raise HTTPException(404, "There is no such sink.")
        session.delete(connection)
    audit.note(caller, "monai.sink.delete", extra={"sink": sink})


def _of(connection: Connection) -> Sink:
    extra = connection.extra_dejson
    return _shown(
        str(connection.conn_id),
        str(connection.conn_type),
        connection.host or "",
        connection.port,
        extra if isinstance(extra, dict) else {},
        connection.description or "",
    )


def _shown(name: str, kind: str, host: str, port: int | None, extra: dict[str, Any], description: str) -> Sink:
    told = {key: "***" if _SECRETS.search(key) else value for key, value in extra.items()}
    return Sink(name=name, type=kind, host=host, port=port, extra=told, description=description)
