"""A job that a task starts over HTTP and then waits for, as the arguments of ``http_async`` describe it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from airflow_monai.errors import InvalidArgument
from airflow_monai.specs.http_request import (
    EXPECTED,
    Problem,
    RequestSpec,
    ResponseKind,
    host_of,
    lowered,
    request_spec,
)
from airflow_monai.specs.http_request import problems_of as request_problems
from airflow_monai.specs.json_path import keys_of
from airflow_monai.specs.templates import leaves, paths_of
from airflow_monai.specs.units import duration_seconds

DEFAULT_INTERVAL = 10.0
SUCCEEDED = ("succeeded", "success", "completed", "complete", "done", "finished", "passed")
FAILED = ("failed", "failure", "error", "errored", "canceled", "cancelled", "aborted", "terminated", "rejected")
JOB_ID, JOB_URL = "job.id", "job.url"
CALLBACK_URL, CALLBACK_TOKEN = "callback.url", "callback.token"
ADDRESSES = ("status_url", "result_url", "cancel_url")
_OF_THE_JOB = (
    "job_id", "status_key", "succeeded", "failed", "poll_interval", "wait", "cancel_method", *ADDRESSES,
)  # fmt: skip


class Wait(str, Enum):
    """How the end of a job becomes known."""

    POLL = "poll"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A request that starts a job, and how to follow that.

    :param job_id: place of the job's id in the first answer; empty for none.
    :param status_url: and ``result_url``, ``cancel_url``: addresses, or paths on the host of the request.
    :param status_key: place of the status in an answer.
    :param succeeded: and ``failed``: values of it, in lower case; every other one means that the job goes on.
    :param interval: seconds between two questions.
    """

    start: RequestSpec
    job_id: str = ""
    status_url: str = ""
    status_key: str = "status"
    succeeded: tuple[str, ...] = SUCCEEDED
    failed: tuple[str, ...] = FAILED
    interval: float = DEFAULT_INTERVAL
    result_url: str = ""
    cancel_url: str = ""
    cancel_method: str = "DELETE"
    wait: Wait = Wait.POLL

    def question(self, method: str, url: str) -> RequestSpec:
        """Another request about the job, with the rights and the limits of the first one."""
        if url.startswith("/") and not self.start.connection:
            url = host_of(self.start.url) + url
        asked = replace(self.start, method=method, url=url, params={}, body_kind="", body=None)
        return replace(asked, key="", expected=EXPECTED, response=ResponseKind.JSON, results={})

    @property
    def result(self) -> RequestSpec:
        """The request for what the job made."""
        asked = self.question("GET", self.result_url or self.status_url)
        return replace(asked, response=self.start.response, results=self.start.results)


def job_spec(args: Mapping[str, Any]) -> JobSpec:
    """The job that arguments describe.

    :raises InvalidArgument: when they cannot be used.
    """
    args = lowered(args)
    for problem in problems_of(args):
        raise InvalidArgument(f"{problem.name or 'the request'} {problem.message}. {problem.hint}".strip())
    start = {name: value for name, value in args.items() if name not in _OF_THE_JOB}
    texts = {name: str(args[name]).strip() for name in ("job_id", "status_key", *ADDRESSES) if name in args}
    try:
        return JobSpec(
            start=request_spec({"method": "POST", **start}),
            succeeded=_words(args.get("succeeded")) or SUCCEEDED,
            failed=_words(args.get("failed")) or FAILED,
            interval=duration_seconds(str(args.get("poll_interval", DEFAULT_INTERVAL))),
            cancel_method=str(args.get("cancel_method", "DELETE")).strip().upper(),
            wait=Wait(str(args.get("wait", "poll")).strip().lower()),
            **texts,
        )
    except ValueError as error:
        raise InvalidArgument(f"The arguments of an HTTP job cannot be used: {error}") from None


def _words(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else str(value or "").split(",")
    return tuple(str(item).strip().lower() for item in items if str(item).strip())


def problems_of(args: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the arguments beyond their single values.

    :param args: by their names in lower case.
    """
    yield from request_problems({"method": "POST", **{k: v for k, v in args.items() if k not in _OF_THE_JOB}})
    for name in ("job_id", "status_key"):
        try:
            keys_of(str(args.get(name, "status")))
        except ValueError as error:
            message = f"is no place in a JSON document: {error}"
            yield Problem(name, "bad-argument", message, f"for example {name}: data.job.{name[-2:]}")
    for name in ADDRESSES:
        yield from _address(args, name)
    yield from _waiting(args)
    both = sorted({*_words(args.get("succeeded"))} & {*_words(args.get("failed"))})
    if both:
        yield Problem("failed", "bad-argument", f"and succeeded both hold {both[0]!r}", "keep it in one of them")


def _address(args: Mapping[str, Any], name: str) -> Iterator[Problem]:
    url = str(args.get(name, "")).strip()
    if not url:
        return
    if not url.startswith(("/", "http://", "https://")) and paths_of(url)[:1] != [JOB_URL]:
        hint = f"for example {name}: /v1/jobs/{{{{ job.id }}}}"
        yield Problem(name, "bad-argument", "must be a path that begins with '/', or an absolute address", hint)
    if JOB_ID in paths_of(url) and "job_id" not in args:
        hint = "job_id: <the key of the id in the answer to the request>"
        yield Problem(name, "missing-argument", "uses {{ job.id }}, but there is no job_id", hint)


def _waiting(args: Mapping[str, Any]) -> Iterator[Problem]:
    """The two ways to learn of the end."""
    request = {name: value for name, value in args.items() if name not in _OF_THE_JOB}
    paths = {path for text in leaves(request) for path in paths_of(text)}
    used = next((path for path in (CALLBACK_URL, CALLBACK_TOKEN) if path in paths), "")
    if str(args.get("wait", "poll")).strip().lower() == Wait.CALLBACK.value:
        if not used:
            hint = 'json: {callback: "{{ callback.url }}"}, or {{ callback.token }} for an answer by message'
            yield Problem("wait", "missing-argument", "needs {{ callback.url }} in the request", hint)
        for name in ("status_url", "poll_interval"):
            if name in args:
                yield Problem(name, "bad-argument", "is not used with wait: callback", "remove it")
    elif used:
        hint = "add wait: callback, or remove it"
        yield Problem("", "bad-argument", f"uses {{{{ {used} }}}} without wait: callback", hint)
    if paths & {JOB_ID, JOB_URL}:
        hint = "it is known in status_url, result_url and cancel_url"
        yield Problem("", "bad-argument", "uses {{ job... }} before there is a job", hint)
