"""``http_async``: a request that starts a job, which is then followed until it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_monai.specs import http_job
from airflow_monai.specs.findings import Finding, Location
from airflow_monai.specs.http_request import METHODS, lowered
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.task_types.base import Arg, Form, TaskTypeSpec
from airflow_monai.specs.task_types.http import REQUEST_ARGS, located, one_output

if TYPE_CHECKING:
    from airflow_monai.specs.model import TaskSpec
    from airflow_monai.specs.view import SpecView

_JOB_ARGS = (
    Arg(
        "job_id",
        "Place of the job's id in the JSON answer to the request; {{ job.id }} in the addresses.",
        template=False,
        example="job.id",
    ),
    Arg(
        "status_url",
        "Where the status is asked for: a path on the host of the request, or an address.",
        default="{{ job.url }}, the answer's Location",
        example="/v1/jobs/{{ job.id }}",
    ),
    Arg("status_key", "Place of the status in its JSON answer.", default="status", template=False, example="state"),
    Arg(
        "succeeded",
        "Statuses of a job that has ended well, in any case.",
        Form.NAMES,
        default=", ".join(http_job.SUCCEEDED),
        template=False,
        example="done",
    ),
    Arg(
        "failed",
        "Statuses of a job that has ended badly. Every other status means that it goes on.",
        Form.NAMES,
        default=", ".join(http_job.FAILED),
        template=False,
        example="error, cancelled",
    ),
    Arg(
        "poll_interval",
        "Time between two questions.",
        Form.DURATION,
        default=f"{http_job.DEFAULT_INTERVAL:g}s",
        template=False,
        minimum=0.5,
        maximum=86_400,
        example="30s",
    ),
    Arg(
        "result_url",
        "Where the result is, once the job has ended well; without it the last status answer is the result.",
        example="/v1/jobs/{{ job.id }}/result",
    ),
    Arg(
        "cancel_url",
        "Called when a person ends the task, and at its time limit.",
        example="/v1/jobs/{{ job.id }}",
    ),
    Arg("cancel_method", "Method of that call.", Form.CHOICE, choices=METHODS, default="DELETE", template=False),
    Arg(
        "wait",
        "poll: ask for the status; callback: the service sends it, to the {{ callback.url }} of the request.",
        Form.CHOICE,
        choices=("poll", "callback"),
        default="poll",
        template=False,
    ),
)


def _check(view: SpecView, at: Location, task: TaskSpec) -> Iterator[Finding]:
    if not view.doubts.lost(*at, "args"):
        yield from located(at, task, http_job.problems_of(lowered(task.args)))
    yield from one_output(at, task)


def _request_arg(arg: Arg) -> Arg:
    return replace(arg, default="POST") if arg.name == "method" else arg


SPEC = TaskTypeSpec(
    TaskType.HTTP_ASYNC,
    "Starts a job by an HTTP request, once, and waits for its end.",
    args=(*map(_request_arg, REQUEST_ARGS), *_JOB_ARGS),
    paths=(http_job.JOB_ID, http_job.JOB_URL, http_job.CALLBACK_URL, http_job.CALLBACK_TOKEN),
    check=_check,
)
