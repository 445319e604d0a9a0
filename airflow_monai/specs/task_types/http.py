"""``http``: one request, whose answer is the task's result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_monai.specs import http_request
from airflow_monai.specs.findings import KEY, Finding, Location
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

REQUEST_ARGS = (
    Arg(
        "url",
        "Address, with templates behind the host only; each value is quoted.",
        example="https://ai.example/v1/scores",
    ),
    Arg("path", "Instead of url: what follows the host of the connection.", example="/v1/scores"),
    Arg(
        "connection",
        "Id of an Airflow connection of type HTTP: host, credentials, headers, TLS. The only place for secrets.",
        template=False,
        example="ai_service",
    ),
    Arg(
        "method",
        "HTTP method.",
        Form.CHOICE,
        choices=http_request.METHODS,
        default="GET, or POST with a body",
        template=False,
    ),
    Arg("headers", "Further headers.", Form.MAPPING, example="{Accept: application/json}"),
    Arg("params", "The query: names and values, or lists of values.", Form.MAPPING, example="{page: 1}"),
    Arg("body", "A text to send.", example="hello"),
    Arg(
        "json",
        "A JSON document to send. A text that is nothing but one template gets the value with its type.",
        Form.ANY,
        example='{study: "{{ context.input.patient_details.id }}"}',
    ),
    Arg("form", "Fields of a form to send.", Form.MAPPING, example="{kind: ct}"),
    Arg(
        "expected_status",
        "Status codes, or ranges of them, of an answer as wanted.",
        Form.ANY,
        default="200-299",
        template=False,
        example="200-299, 404",
    ),
    Arg(
        "response",
        "What the answer is: json (its keys are the result's), text (result.text) or none.",
        Form.CHOICE,
        choices=("json", "text", "none"),
        default="json",
        template=False,
    ),
    Arg(
        "results",
        "Key of the result to its place in the JSON answer (data.volume, or /data/volume), instead of all keys.",
        Form.MAPPING,
        template=False,
        example="{volume: data.volume_ml}",
    ),
    Arg(
        "max_response_bytes",
        "Largest answer.",
        Form.WHOLE,
        default=str(http_request.DEFAULT_MAX_BYTES),
        template=False,
        minimum=0,
        maximum=http_request.MAX_BYTES,
    ),
    Arg(
        "timeout_seconds",
        "Seconds for one request with its answer.",
        Form.NUMBER,
        default=f"{http_request.DEFAULT_TIMEOUT:g}",
        template=False,
        minimum=0.1,
        maximum=http_request.MAX_TIMEOUT,
    ),
    Arg(
        "idempotency_key",
        "true, or a text: sent as Idempotency-Key, the same whenever the task is tried again, so that it may be.",
        default="false",
        example="true",
    ),
    Arg(
        "redirects",
        "Which redirects are followed.",
        Form.CHOICE,
        choices=("same_host", "none"),
        default="same_host",
        template=False,
    ),
)


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    if not view.doubts.lost(*at, "args"):
        yield from located(at, task, http_request.problems_of(http_request.lowered(task.args)))
    yield from one_output(at, task)


def located(at: Location, task: TaskSpec, problems: Iterator[http_request.Problem]) -> Iterator[Finding]:
    """Problems of arguments with their places."""
    written = {name.lower(): name for name in task.args}
    for problem in problems:
        name = written.get(problem.name)
        place = (*at, "args", name) if name else ((*at, "args", KEY) if task.args else at)
        subject = f"args.{name}" if name else f"a task of type {task.type}"
        yield Finding(place, problem.code, f"task {task.id!r}: {subject} {problem.message}", problem.hint)


def one_output(at: Location, task: TaskSpec) -> Iterator[Finding]:
    """The answer as it came may be kept as one artifact."""
    if len(task.artifacts.output) > 1:
        message = f"task {task.id!r}: a task of type {task.type} has one output at most, the answer as it came"
        yield Finding((*at, "artifacts", "output", 1), "too-many-outputs", message, "keep the first one")


SPEC = TaskTypeSpec(
    TaskType.HTTP,
    "Sends one HTTP request; the answer is the result.",
    args=REQUEST_ARGS,
    check=_check,
)
