"""Requests of light tasks: one with an effect is sent once, whatever dies in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from airflow_monai.errors import OutcomeUnknown, ServiceRefused, ServiceUnavailable
from airflow_monai.hooks.http_client import AnswerLost, HttpAnswer, HttpClient, HttpRequest, NotSent
from airflow_monai.hooks.http_endpoint import endpoint_of
from airflow_monai.hooks.http_hosts import HostRules
from airflow_monai.specs.http_request import RequestSpec
from airflow_monai.triggers.light_run import LightRun

MAX_RETRY_AFTER = 60.0
"""Seconds; a service that wants to be left alone for longer is asked again when Airflow retries the task."""
_UNAVAILABLE = 503
"""With this and with all of 4xx a service says that it did nothing with the request (RFC 9110 section 15)."""
T = TypeVar("T")


class AlreadySent(OutcomeUnknown):
    """Another life of this task has sent the request.

    :param seconds: for which that life may still be waiting for the answer.
    """

    def __init__(self, message: str, seconds: float):
        super().__init__(message)
        self.seconds = seconds


async def open_client(connection: str) -> HttpClient:
    """A client with the rights of an Airflow connection, or without rights."""
    from airflow_monai import settings

    rules = HostRules.parse(await asyncio.to_thread(lambda: settings.load().http_allowed_hosts))
    return HttpClient(await endpoint_of(connection), rules)


async def sent_once(
    run: LightRun, client: HttpClient, spec: RequestSpec, request: HttpRequest, note: str
) -> HttpAnswer:
    """The expected answer to a request, which is repeated only where that does no harm.

    :param note: names the request among those of the task.
    :raises OutcomeUnknown: the request may have had its effect, and must not be repeated.
    :raises ServiceUnavailable: the request may be tried again.
    :raises ServiceRefused: the service does not do it.
    """
    sealed = not spec.is_repeatable
    if sealed:
        await asyncio.to_thread(_seal, run, spec, note)
    try:
        answer = await client.send(request)
    except NotSent:
        await _unseal(run, sealed, note)
        raise
    except AnswerLost as error:
        raise (_unknown(spec, str(error)) if sealed else error) from None
    if spec.expects(answer.status):
        return answer
    if sealed and answer.is_of_another:
        raise _unknown(spec, f"{spec.shown}: the page that it redirected to has status {answer.status}.")
    if 400 <= answer.status < 500 or answer.status == _UNAVAILABLE:
        await _unseal(run, sealed, note)
    elif sealed and answer.status >= 500:
        raise _unknown(spec, f"{spec.shown}: the service failed with status {answer.status}.")
    raise await _refusal(spec, answer)


def _seal(run: LightRun, spec: RequestSpec, note: str) -> None:
    name = _sealed_name(run, note)
    if run.note_once(name, {"at": time.time()}):
        return
    sent = (run.noted(name) or {}).get("at", 0.0)
    error = _unknown(spec, f"{spec.shown}: it was sent before, and the answer is not known.")
    # by the clock of another host, which may be wrong
    raise AlreadySent(str(error), min(spec.timeout, sent + spec.timeout - time.time()))


async def _unseal(run: LightRun, sealed: bool, note: str) -> None:
    """The service has not handled the request: it may be sent again."""
    if sealed:
        free = f"{note}_free"
        await asyncio.to_thread(lambda: run.keep(**{free: run.state.get(free, 0) + 1}))


def _sealed_name(run: LightRun, note: str) -> str:
    number = run.state.get(f"{note}_free", 0)
    return f"{note}-sent-{number + 1}"


def _unknown(spec: RequestSpec, what: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{what} The request may have had its effect, so it is not repeated. Find out whether it had; clear the task "
        "to send it again. A service that knows idempotency keys may be asked twice: idempotency_key: true"
    )


async def _refusal(spec: RequestSpec, answer: HttpAnswer) -> ServiceUnavailable | ServiceRefused:
    status = answer.status
    if status in (408, 429) or status >= 500:
        await asyncio.sleep(_retry_after(answer))
        return ServiceUnavailable(f"{spec.shown}: the service answered with status {status}.")
    if 300 <= status < 400:
        why = "with a redirect, which is followed only on the same host" if spec.follows else "with a redirect"
        return ServiceRefused(f"{spec.shown}: the service answered {why} (status {status}).", status=status)
    return ServiceRefused(f"{spec.shown}: the service answered with status {status}, not as expected.", status=status)


def _retry_after(answer: HttpAnswer) -> float:
    """Seconds that the service wants to be left alone for (RFC 9110 section 10.2.3), bounded."""
    text = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(text) if text.isdecimal() else _until(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _until(text: str) -> float:
    moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - datetime.now(timezone.utc)).total_seconds()


async def waited(seconds: float, look: Callable[[], T | None], every: float = 0.5) -> T | None:
    """What another life of this task comes to within so many seconds; looks once at least."""
    deadline = time.monotonic() + seconds
    while (found := await asyncio.to_thread(look)) is None and time.monotonic() < deadline:
        await asyncio.sleep(every)
    return found
