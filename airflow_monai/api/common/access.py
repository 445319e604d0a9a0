"""Who calls, and what they may: Airflow's auth manager is asked, for every route.

Besides Airflow's own tokens (``Authorization: Bearer``, or the cookie of its UI) a name and a password are taken
(RFC 7617): they are given to the log-in of Airflow's auth manager, and its token is kept for a minute.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any
from urllib.parse import urlsplit

import requests
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, resolve_user_from_token
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials

from airflow_monai.api.common.limits import remember
from airflow_monai.api.common.logging_in import TakesNoPasswords, log_in

TOKEN_SECONDS = 60.0
ALL = "~"
"""The name that auth managers are asked about for all DAGs, or connections, together: none can have it. Without a name
they are asked who may list, and FAB says yes then to whoever may see a single DAG."""
_KEPT = 512
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Right(Enum):
    """What a caller may do, as Airflow's auth manager knows it: a method, and what of a DAG it is about."""

    SEE_WORKFLOWS = ("GET", None)
    EDIT_WORKFLOWS = ("PUT", None)
    SEE_RUNS = ("GET", DagAccessEntity.RUN)
    START_RUNS = ("POST", DagAccessEntity.RUN)
    CHANGE_RUNS = ("PUT", DagAccessEntity.RUN)
    SEE_TASKS = ("GET", DagAccessEntity.TASK_INSTANCE)
    CHANGE_TASKS = ("PUT", DagAccessEntity.TASK_INSTANCE)
    READ_DATA = ("GET", DagAccessEntity.TASK_LOGS)
    SEE_CONNECTIONS = ("GET", "connection")
    ADD_CONNECTIONS = ("POST", "connection")
    CHANGE_CONNECTIONS = ("PUT", "connection")
    DELETE_CONNECTIONS = ("DELETE", "connection")


MEANINGS: Mapping[Right, str] = {
    Right.SEE_WORKFLOWS: "List and describe workflows and MAPs.",
    Right.EDIT_WORKFLOWS: "Register, change and unregister them.",
    Right.SEE_RUNS: "List and describe jobs and workflow instances.",
    Right.START_RUNS: "Start them; bring data in; be notified of their end.",
    Right.CHANGE_RUNS: "Cancel and finalize them, acknowledge failed ones; remove data.",
    Right.SEE_TASKS: "List and describe their tasks.",
    Right.CHANGE_TASKS: "End tasks; take, keep and report export tasks.",
    Right.READ_DATA: "Files and their names, logs, results, patient attributes: as for the task logs of Airflow, which "
    "may tell of a patient too.",
    Right.SEE_CONNECTIONS: "List and describe credentials, sinks and notification handlers, without their secrets.",
    Right.ADD_CONNECTIONS: "Create them.",
    Right.CHANGE_CONNECTIONS: "Change them.",
    Right.DELETE_CONNECTIONS: "Delete them.",
}


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    user: BaseUser

    @property
    def name(self) -> str:
        return str(self.user.get_name())

    def may(self, right: Right, name: str | None = None) -> bool:
        """
        :param name: of the DAG or the connection; None for all of them.
        :raises HTTPException: 503 when the auth manager's own server does not answer.
        """
        with _reachable():
            return self._may(right, name)

    def _may(self, right: Right, name: str | None) -> bool:
        method, entity = right.value
        manager = get_auth_manager()
        if entity == "connection":
            return bool(
                manager.is_authorized_connection(
                    method=method,  # type: ignore[arg-type]
                    details=ConnectionDetails(conn_id=name or ALL),
                    user=self.user,
                )
            )
        return bool(
            manager.is_authorized_dag(
                method=method,  # type: ignore[arg-type]
                access_entity=entity,
                details=DagDetails(id=name or ALL, team_name=_team(name)),
                user=self.user,
            )
        )

    def check(self, right: Right, name: str | None = None) -> None:
        """:raises HTTPException: 403 when the caller may not."""
        if not self.may(right, name):
            about = f" of {name!r}" if name else ""
            raise HTTPException(403, f"You have no right to {right.name.lower().replace('_', ' ')}{about} here.")

    def of_dags(self, right: Right, dag_ids: set[str]) -> set[str]:
        """Those of the DAGs that the caller has this right on."""
        if self.may(right):
            return dag_ids
        if right.value[0] == "GET":  # what may be seen of a DAG that may not be seen is nothing
            dag_ids = self._readable(dag_ids)
        return {dag_id for dag_id in dag_ids if self.may(right, dag_id)}

    def _readable(self, dag_ids: set[str]) -> set[str]:
        """In one question for each team: Keycloak's manager asks its server about many DAGs at once, and keeps it."""
        by_team: dict[str | None, set[str]] = {}
        for dag_id, team in _teams(dag_ids).items():
            by_team.setdefault(team, set()).add(dag_id)
        manager = get_auth_manager()
        with _reachable():
            return {
                dag_id
                for team, ids in by_team.items()
                for dag_id in manager.filter_authorized_dag_ids(dag_ids=ids, user=self.user, team_name=team)
            }


async def caller_of(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)],
) -> Caller:
    """Who calls; 401 for nobody that is known here."""
    caller = Caller(await _user_of(request, bearer))
    remember(request, caller.name)
    return caller


async def _user_of(request: Request, bearer: HTTPAuthorizationCredentials | None) -> BaseUser:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if bearer is None:
        _check_origin(request)
    if scheme.lower() == "basic":
        return await _passwords.user_of(request, value.strip())
    try:
        user: BaseUser | None = await get_user(request, None, bearer)
        if user is None:  # Keycloak's, of a cookie that came without those beside it
            raise HTTPException(401, "Not authenticated")
        return user
    except HTTPException as error:
        if error.status_code == 403:  # what Airflow says of a token that is none
            raise HTTPException(401, "The token is not valid.", {"WWW-Authenticate": "Bearer"}) from None
        raise HTTPException(
            error.status_code, error.detail, {"WWW-Authenticate": 'Bearer, Basic realm="Airflow"'}
        ) from None


TheCaller = Annotated[Caller, Depends(caller_of)]


def needs(*rights: Right) -> Any:
    """A route's dependency: the caller needs these rights, on the DAG that the path names or else on all."""

    def check(request: Request, caller: TheCaller) -> None:
        for right in rights:
            caller.check(right, request.path_params.get("dag_id") if right.value[1] != "connection" else None)

    check.rights = rights  # type: ignore[attr-defined]  # for the page of all routes
    return Depends(check)


def _check_origin(request: Request) -> None:
    """A page elsewhere must not act with what a browser sends by itself: the cookie of somebody who is signed in, or a
    password that was typed once."""
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin", "")
    if site is None and origin:  # a browser says no more to a server without TLS
        ours = {request.headers.get(name) for name in ("host", "x-forwarded-host")}
        site = "same-origin" if urlsplit(origin).netloc in ours else "cross-site"
    if site not in (None, "same-origin", "none"):
        raise HTTPException(403, "A page of another site may not change anything here.")


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except requests.RequestException:
        raise HTTPException(503, "Airflow's auth manager cannot ask its server now.") from None


def _teams(dag_ids: set[str]) -> dict[str, str | None]:
    from airflow.models.dag import DagModel

    known = DagModel.get_dag_id_to_team_name_mapping(sorted(dag_ids)) if dag_ids else {}
    return {dag_id: known.get(dag_id) for dag_id in dag_ids}


def _team(dag_id: str | None) -> str | None:
    from airflow.models.dag import DagModel

    return DagModel.get_team_name(dag_id) if dag_id else None


class _Passwords:
    """Logs in by name and password, as the auth manager does; what it says is kept for a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._tokens: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    async def user_of(self, request: Request, value: str) -> BaseUser:
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name, colon, password = "", "", ""
        if not colon:
            raise _refused("The credentials cannot be read.")
        key = hashlib.sha256(f"{name}\0{password}".encode()).digest()
        token = self._kept(key)
        if token is None:
            try:
                token = await log_in(request, name, password)
            except TakesNoPasswords:
                raise _refused("Airflow's auth manager takes no password here: use a token.") from None
            if token is None:
                raise _refused("Name or password is wrong.")
            self._keep(key, token)
        return await resolve_user_from_token(token)

    def _kept(self, key: bytes) -> str | None:
        with self._lock:
            until, token = self._tokens.get(key, (0.0, ""))
            return token if until > self._clock() else None

    def _keep(self, key: bytes, token: str) -> None:
        with self._lock:
            self._tokens[key] = (self._clock() + TOKEN_SECONDS, token)
            self._tokens.move_to_end(key)
            while len(self._tokens) > _KEPT:
                self._tokens.popitem(last=False)


_passwords = _Passwords()


def _refused(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": 'Basic realm="Airflow"'})
