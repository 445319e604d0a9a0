"""Notification handlers: register, list, test, unregister, and see what became of their notifications."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Response

from airflow_monai import settings
from airflow_monai.api.app_server.handler_models import (
    Again,
    Delivery,
    DeliveryList,
    HandlerAnswer,
    HandlerList,
    NewHandler,
    RegisteredHandler,
    TestResult,
)
from airflow_monai.api.app_server.job_finding import dags_of_jobs
from airflow_monai.api.app_server.map_names import dag_id_for
from airflow_monai.api.common.access import Caller, Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.runs import site_store
from airflow_monai.errors import SecretsUnsafe
from airflow_monai.hooks.fernet import AirflowFernet
from airflow_monai.hooks.notification_sender import Hosts, post
from airflow_monai.jobs.requests import MAX_KEY, request_id
from airflow_monai.lifecycle.journal import Journal
from airflow_monai.lifecycle.outbox import Place, Verdict, place_of, tell_again
from airflow_monai.notifications.body import test_notification
from airflow_monai.notifications.deliveries import Deliveries
from airflow_monai.notifications.handlers import Handler, Handlers, check_url
from airflow_monai.notifications.signing import new_secret
from airflow_monai.specs.compile import dag_id_of
from airflow_monai.store.base import Store

router = APIRouter(prefix="/app-server/notification-handlers", tags=["App Server: notification handlers"])
TEST_SECONDS = 5.0
SECRET_AGAIN = timedelta(days=1)
"""So long a secret that was made is told to whoever asks the same again, who may have missed the answer."""


@router.post(
    "",
    status_code=201,
    summary="Register a notification handler",
    operation_id="register_handler",
    responses={
        200: {"model": RegisteredHandler, "description": "The Idempotency-Key came before: this is the same handler"},
        **responses(400, 409, 503),
    },
)
def register_handler(
    wanted: NewHandler,
    response: Response,
    caller: TheCaller,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_KEY,
            description="Any text of the caller's. The same text means the same request, which is carried out once; "
            "once its handler is unregistered the text is used up.",
        ),
    ] = None,
) -> RegisteredHandler:
    """From now on it is told, by signed POST requests, of what it wants to know. It may be asked for what its
    registrant may start: for all workflows, or for those that it names."""
    store = site_store()
    dag_ids = _dag_ids(wanted)
    jobs = tuple(dict.fromkeys(_job_id(job) for job in wanted.jobs))
    _check_rights(store, caller, dag_ids, jobs)
    check_url(wanted.url)
    handlers = _handlers(store)
    handler_id = str(uuid.UUID(request_id(caller.name, idempotency_key)))
    known = handlers.get(handler_id) if idempotency_key is not None else None
    if known is None:
        _hosts().check(wanted.url)
        secret = wanted.secret or new_secret()
        handler = Handler(
            id=handler_id,
            url=wanted.url,
            events=tuple(dict.fromkeys(wanted.events)),
            dag_ids=dag_ids,
            jobs=jobs,
            secret=_encrypted(secret),
            owner=caller.name,
            registered=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            start=Journal(store).end() + 1,
            description=wanted.description,
            keyed=idempotency_key is not None,
            made_secret=wanted.secret is None,
        )
        if handlers.add(handler):
            note(caller, "monai.handler.register", extra={"handler": handler.id, "dags": list(dag_ids)[:20]})
            shown = _answer(store, handlers, handler)
            return RegisteredHandler(**shown.model_dump(), secret=None if wanted.secret else secret)
        known = handlers.get(handler_id)
    if known is None:
        raise HTTPException(409, "The handler of this Idempotency-Key has been unregistered: use a new one.")
    secret = _decrypted(known.secret)
    if not _is_asked_again(known, secret, wanted, dag_ids, jobs):
        raise HTTPException(409, "This Idempotency-Key has been used for another handler: use a new one.")
    response.status_code = 200
    known = _look_at_rights(store, handlers, known, caller)
    return RegisteredHandler(
        **_answer(store, handlers, known).model_dump(), secret=secret if _may_have_missed(known) else None
    )


@router.get("", summary="List the notification handlers", operation_id="list_handlers", responses=responses())
def list_handlers(caller: TheCaller) -> HandlerList:
    """Those that the caller has registered; all, for whoever may see connections. Whoever asks for their own has them
    told for some time more, if they still may."""
    store = site_store()
    handlers = _handlers(store)
    everything = caller.may(Right.SEE_CONNECTIONS)
    found = [one for one in handlers.all() if everything or one.owner == caller.name]
    found = [_look_at_rights(store, handlers, one, caller) for one in found]
    return HandlerList(handlers=[_answer(store, handlers, one) for one in found])


@router.get("/{handler_id}", summary="A notification handler", operation_id="get_handler", responses=responses(404))
def get_handler(handler_id: str, caller: TheCaller) -> HandlerAnswer:
    """One handler, without its secret."""
    store = site_store()
    handlers = _handlers(store)
    return _answer(store, handlers, _find(store, handlers, handler_id, caller, Right.SEE_CONNECTIONS))


@router.delete(
    "/{handler_id}",
    status_code=204,
    summary="Unregister a notification handler",
    operation_id="unregister_handler",
    responses=responses(404),
)
def unregister_handler(handler_id: str, caller: TheCaller) -> None:
    """It is told nothing more, also not what waits for it."""
    store = site_store()
    handlers = _handlers(store)
    handler = _find(store, handlers, handler_id, caller, Right.DELETE_CONNECTIONS)
    handlers.remove(handler.id)
    note(caller, "monai.handler.unregister", extra={"handler": handler.id})


@router.post(
    "/{handler_id}/test",
    summary="Send a test to a notification handler",
    operation_id="test_handler",
    responses=responses(404, 409, 503),
)
def test_handler(handler_id: str, caller: TheCaller) -> TestResult:
    """Posts a signed event of the kind ``test`` now, and tells whether it was taken."""
    store = site_store()
    handlers = _handlers(store)
    handler = _find(store, handlers, handler_id, caller, Right.CHANGE_CONNECTIONS)
    _check_told(handlers, handler)
    secret = _decrypted(handler.secret)
    sent = test_notification(handler.id, datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
    attempt = post(handler.url, secret, sent, _hosts(), TEST_SECONDS)
    note(caller, "monai.handler.test", extra={"handler": handler.id})
    return TestResult(delivered=attempt.verdict is Verdict.TOLD, event_id=sent.key, reason=attempt.reason or None)


@router.get(
    "/{handler_id}/deliveries",
    summary="What became of a handler's notifications",
    operation_id="list_deliveries",
    responses=responses(400, 404),
)
def list_deliveries(
    handler_id: str, caller: TheCaller, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> DeliveryList:
    """What failed, what waits and why, what is to come, and the latest that were delivered."""
    store = site_store()
    handler = _find(store, _handlers(store), handler_id, caller, Right.SEE_CONNECTIONS)
    place = place_of(store, handler.channel) or Place(handler.start)
    return DeliveryList(deliveries=list(islice(_deliveries(Deliveries(store, place, handler.wants)), limit)))


@router.post(
    "/{handler_id}/deliveries/retry",
    status_code=202,
    summary="Deliver what was given up all the same",
    operation_id="retry_deliveries",
    responses=responses(400, 404, 409),
)
def retry_deliveries(handler_id: str, caller: TheCaller, wanted: Again) -> DeliveryList:
    """They are tried again within seconds, by a gateway. Answers with those that were found."""
    store = site_store()
    handlers = _handlers(store)
    handler = _find(store, handlers, handler_id, caller, Right.CHANGE_CONNECTIONS)
    _check_told(handlers, handler)
    place = place_of(store, handler.channel) or Place(handler.start)
    found = [one for one in place.given_up if not wanted.events or one.event_id in wanted.events]
    tell_again(store, handler.channel, [one.event_id for one in found])
    note(caller, "monai.handler.retry", extra={"handler": handler.id, "count": len(found)})
    return DeliveryList(deliveries=[Delivery.over(one, "failed") for one in found])


def _deliveries(found: Deliveries) -> Iterator[Delivery]:
    for outcome in found.failed():
        yield Delivery.over(outcome, "failed")
    for event, waiting, is_first in found.waiting():
        due = datetime.fromtimestamp(waiting.due, timezone.utc).isoformat(timespec="seconds")
        yield Delivery.waits(event, waiting, is_first, due)
    for event in found.pending():
        yield Delivery.pending(event)
    for outcome in found.delivered():
        yield Delivery.over(outcome, "delivered")


def _find(store: Store, handlers: Handlers, handler_id: str, caller: Caller, right: Right) -> Handler:
    """A handler of the caller's own, or any where the caller has this right; others are not even there."""
    handler = handlers.get(handler_id)
    if handler is None or not (handler.owner == caller.name or caller.may(right)):
        raise HTTPException(404, "There is no such notification handler.")
    return _look_at_rights(store, handlers, handler, caller)


def _handlers(store: Store) -> Handlers:
    return Handlers(store, settings.load_notifications().handler_days)


def _answer(store: Store, handlers: Handlers, handler: Handler) -> HandlerAnswer:
    standing = handlers.standing(handler)
    return HandlerAnswer.of(handler, place_of(store, handler.channel), standing.until, standing.lapsed)


def _look_at_rights(store: Store, handlers: Handlers, handler: Handler, caller: Caller) -> Handler:
    """While its owner is here to be asked for: whether they still may have it told all that it is told."""
    if handler.owner != caller.name or handler.lapsed:
        return handler
    may_be_told = _may_be_told(store, caller, handler)
    if may_be_told:
        handlers.confirm(handler)
    elif may_be_told is False and not handlers.standing(handler).lapsed:
        handler = handlers.lapse(handler, "Its owner has no right any more to start what it is told of.")
        note(caller, "monai.handler.lapse", extra={"handler": handler.id})
    return handler


def _may_be_told(store: Store, caller: Caller, handler: Handler) -> bool | None:
    """None where nobody can say so, since it is told of a job of an unknown DAG: then it counts no longer than it did,
    but is no reason to end it either."""
    if caller.may(Right.START_RUNS):
        return True
    if not handler.dag_ids and not handler.jobs:
        return False
    dag_ids = set(handler.dag_ids or dags_of_jobs(handler.jobs, store))
    if not all(caller.may(Right.START_RUNS, dag_id) for dag_id in dag_ids if dag_id is not None):
        return False
    return None if None in dag_ids else True


def _check_told(handlers: Handlers, handler: Handler) -> None:
    if reason := handlers.standing(handler).lapsed:
        raise HTTPException(409, f"The notification handler is told nothing more: {reason}")


def _hosts() -> Hosts:
    return Hosts(settings.load_notifications().hosts)


def _encrypted(secret: str) -> str:
    try:
        return AirflowFernet().encrypt(secret)
    except SecretsUnsafe as error:
        raise HTTPException(503, str(error)) from None


def _decrypted(secret: str) -> str:
    try:
        return AirflowFernet().decrypt(secret)
    except SecretsUnsafe as error:
        raise HTTPException(503, str(error)) from None


def _is_asked_again(
    known: Handler, secret: str, wanted: NewHandler, dag_ids: tuple[str, ...], jobs: tuple[str, ...]
) -> bool:
    """Whether a request is the one that this handler was registered by."""
    asked = (wanted.url, tuple(dict.fromkeys(wanted.events)), dag_ids, jobs, wanted.description, wanted.secret is None)
    made = (known.url, known.events, known.dag_ids, known.jobs, known.description, known.made_secret)
    return asked == made and hmac.compare_digest((wanted.secret or secret).encode(), secret.encode())


def _may_have_missed(known: Handler) -> bool:
    """Whether its owner may still ask for a secret that they were told when it was registered."""
    since = datetime.now(timezone.utc) - datetime.fromisoformat(known.registered)
    return known.made_secret and since < SECRET_AGAIN


def _dag_ids(wanted: NewHandler) -> tuple[str, ...]:
    found = []
    for label in wanted.maps:
        dag_id = dag_id_for(label)
        if dag_id is None:
            raise HTTPException(400, "maps: a MAP is named name:version.")
        found.append(dag_id)
    found += [dag_id_of(name) for name in wanted.workflows]
    if any(not one or len(one) > 250 for one in found):
        raise HTTPException(400, "workflows: one of them is no name of a workflow.")
    return tuple(dict.fromkeys(found))


def _job_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise HTTPException(400, "jobs: an id of a job or workflow instance is a UUID.") from None


def _check_rights(store: Store, caller: Caller, dag_ids: tuple[str, ...], jobs: tuple[str, ...]) -> None:
    """On all that it would be told of; on all DAGs where it is not known what that is."""
    if caller.may(Right.START_RUNS):
        return
    for dag_id in dag_ids or (dags_of_jobs(jobs, store) if jobs else (None,)):
        caller.check(Right.START_RUNS, dag_id)
