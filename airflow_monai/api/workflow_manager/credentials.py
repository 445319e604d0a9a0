"""Credentials: secrets that tasks show to services. They are written, never read; Airflow keeps them, encrypted, as its
connections, and a task names one by its id (``args.connection``)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Annotated, Any

from airflow.models.connection import Connection
from airflow.sdk.log import mask_secret
from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.hooks.credentials import FORMS, Credential, Stored, read, stored

router = APIRouter(prefix=f"{PREFIX}/credentials", tags=["Workflow Manager: credentials"])
MAX_LISTED = 1000
_ID = r"^[A-Za-z0-9_.-]{1,200}$"
_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
EXAMPLE: dict[str, Any] = {
    "id": "segmentation_service",
    "type": "bearer",
    "description": "Token of the segmentation service, renewed each January",
    "host": "https://ai.hospital.example",
    "secret": "what the service gave you",
}
CredentialId = Annotated[str, Path(pattern=_ID, description="Its id.", examples=["segmentation_service"])]


class NewValues(BaseModel):
    """What a credential shall be."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    type: str = Field(
        description="How the secret is shown: `basic` (with the login), `bearer`, `header` (an API key), or `http` (a "
        "host without a secret). Any other one is the type of an Airflow connection, such as `argo`, `aws`, `docker`.",
        pattern=r"^[a-z][a-z0-9_-]{0,99}$",
        examples=["bearer"],
    )
    description: str = Field("", max_length=2000)
    host: str = Field(
        "",
        description="Where the secret is shown, and nowhere else: a host, or the beginning of an address.",
        max_length=500,
        pattern=_ONE_LINE,
        examples=["https://ai.hospital.example"],
    )
    port: int | None = Field(None, ge=1, le=65535)
    login: str = Field("", max_length=500, pattern=_ONE_LINE)
    header: str = Field("", description="Of type header: its name.", max_length=100, examples=["X-Api-Key"])
    secret: SecretStr | None = Field(
        None,
        description="Password, token or key. Never told again. Left out of an update of the same type: it stays.",
        max_length=5000,
    )
    options: dict[str, Any] | None = Field(
        None,
        description="More of the connection's extra, such as `verify` or `cert`. Never told again; left out of an "
        "update of the same type: it stays.",
        examples=[{"verify": "/etc/ssl/hospital-ca.pem"}],
    )


class NewCredential(NewValues):
    """A credential to create."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    id: str = Field(description="What workflows name it by.", pattern=_ID, examples=["segmentation_service"])


class ShownCredential(BaseModel):
    """A credential, without its secret."""

    id: str = Field(examples=["segmentation_service"])
    type: str = Field(examples=["bearer"])
    description: str = ""
    host: str = Field("", examples=["https://ai.hospital.example"])
    port: int | None = None
    login: str = ""
    header: str = ""
    has_secret: bool = Field(examples=[True])
    options: list[str] = Field([], description="Names of what else the connection says.", examples=[["verify"]])


@router.post(
    "",
    status_code=201,
    responses=responses(400, 409, 413),
    operation_id="create_credential",
    summary="Create a credential",
)
def create_credential(wanted: NewCredential, caller: TheCaller) -> ShownCredential:
    """A task uses it as `connection: <id>`. 409 where there is an Airflow connection of this id already."""
    caller.check(Right.ADD_CONNECTIONS, wanted.id)
    credential = _given(wanted.id, wanted)
    connection = Connection(conn_id=wanted.id, conn_type="http")
    _fill(connection, credential, None)
    taken = HTTPException(409, f"There is an Airflow connection {wanted.id!r} already.")
    if f"AIRFLOW_CONN_{wanted.id.upper()}" in os.environ:
        raise taken  # that one would be used, not this
    try:
        with create_session() as session:
            session.add(connection)
            session.flush()
            shown = _shown(connection)
    except IntegrityError:
        raise taken from None
    _note(caller, "create", credential)
    return shown


@router.get("", responses=responses(400), operation_id="list_credentials", summary="List credentials")
def list_credentials(
    caller: TheCaller,
    type: Annotated[str, Query(description="Of this type only.", max_length=100, examples=["bearer"])] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> list[ShownCredential]:
    """Those that the caller may see, by id, without their secrets. Connections that come from the environment or from a
    secrets backend are not listed."""
    wanted = select(Connection).order_by(Connection.conn_id)
    if type:
        wanted = wanted.where(Connection.conn_type == ("http" if type in FORMS else type))
    with create_session() as session:
        everything = caller.may(Right.SEE_CONNECTIONS)
        found = [one for one in session.scalars(wanted) if everything or caller.may(Right.SEE_CONNECTIONS, one.conn_id)]
        if not found and not everything:
            caller.check(Right.SEE_CONNECTIONS)
        shown = [one for one in map(_shown, found) if type in ("", one.type)]
    return shown[offset : offset + limit]


@router.get("/{id}", responses=responses(400, 404), operation_id="get_credential", summary="Describe a credential")
def get_credential(id: CredentialId, caller: TheCaller) -> ShownCredential:
    """One credential, without its secret."""
    caller.check(Right.SEE_CONNECTIONS, id)
    with create_session() as session:
        return _shown(_found(session, id))


@router.put(
    "/{id}", responses=responses(400, 404, 413), operation_id="update_credential", summary="Change a credential"
)
def update_credential(id: CredentialId, wanted: NewValues, caller: TheCaller) -> ShownCredential:
    """All of it is replaced, except a secret and options that are left out. Tasks that start from now on use it."""
    caller.check(Right.CHANGE_CONNECTIONS, id)
    with create_session() as session:
        connection = _found(session, id, lock=True)
        credential = _given(id, wanted)
        _fill(connection, credential, _kept(connection), keep_options=wanted.options is None)
        session.flush()
        shown = _shown(connection)
    _note(caller, "update", credential)
    return shown


@router.delete(
    "/{id}",
    status_code=204,
    responses=responses(400, 404),
    operation_id="delete_credential",
    summary="Delete a credential",
)
def delete_credential(id: CredentialId, caller: TheCaller) -> None:
    """Tasks that name it fail from then on, and say so."""
    caller.check(Right.DELETE_CONNECTIONS, id)
    with create_session() as session:
        connection = _found(session, id, lock=True)
        credential = _kept(connection)
        session.delete(connection)
    _note(caller, "delete", credential)


def _given(conn_id: str, wanted: NewValues) -> Credential:
    secret = wanted.secret.get_secret_value() if wanted.secret else None
    if secret:
        mask_secret(secret)  # in this process' log from here on
    return Credential(
        id=conn_id,
        type=wanted.type,
        description=wanted.description,
        host=wanted.host,
        port=wanted.port,
        login=wanted.login,
        header=wanted.header,
        secret=secret,
        options=wanted.options or {},
    )


def _fill(connection: Connection, wanted: Credential, before: Credential | None, *, keep_options: bool = False) -> None:
    if keep_options and before is not None and before.type == wanted.type:
        wanted = replace(wanted, options=before.options)
    made = stored(wanted, before)
    before_type = connection.conn_type
    connection.conn_type = made.conn_type
    connection.description = wanted.description or None
    connection.host, connection.port = made.host or None, made.port
    if "://" in made.host or made.conn_type != before_type:
        connection.schema = None
    connection.login = made.login or None
    connection.set_password(made.password or None)
    connection.set_extra(json.dumps(dict(made.extra)) if made.extra else None)


def _found(session: Any, conn_id: str, *, lock: bool = False) -> Connection:
    wanted = select(Connection).where(Connection.conn_id == conn_id)
    found = session.scalar(wanted.with_for_update() if lock else wanted)
    if found is None:
        raise HTTPException(404, f"There is no credential {conn_id!r}.")
    return found  # type: ignore[no-any-return]


def _kept(connection: Connection) -> Credential:
    extra = connection.extra_dejson
    kept = Stored(
        connection.conn_type or "",
        connection.host or "",
        connection.port,
        connection.login or "",
        connection.password or "",
        extra if isinstance(extra, dict) else {},
    )
    return read(str(connection.conn_id), kept, connection.description or "")


def _shown(connection: Connection) -> ShownCredential:
    kept = _kept(connection)
    return ShownCredential(
        id=kept.id,
        type=kept.type,
        description=kept.description,
        host=_without_password(kept.host),
        port=kept.port,
        login=kept.login,
        header=kept.header,
        has_secret=bool(kept.secret),
        options=sorted(map(str, kept.options)),
    )


def _without_password(host: str) -> str:
    """An address that somebody else has put a password into is not told with it."""
    place, at, name = host.rpartition("@")
    return f"{place.partition('://')[0]}://***@{name}" if at and "://" in place else (f"***@{name}" if at else host)


def _note(caller: Caller, what: str, credential: Credential) -> None:
    note(caller, f"monai.credential.{what}", extra={"credential": credential.id, "type": credential.type})
