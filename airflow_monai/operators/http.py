"""HTTP requests, and jobs started by them, as tasks that cost no worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_monai.operators.light import LightOperator


class HttpRequestOperator(LightOperator):
    """Sends one HTTP request from the triggerer; the answer is the task's result.

    A request that cannot be repeated without harm (POST, PATCH) is sent once: when its answer gets lost, the task fails
    and is not tried again, unless ``idempotency_key`` says that it may be. Keys of a JSON answer can be read in
    conditions and templates of later tasks (``context.executions.<task>.result.<key>``), and so can the status code,
    ``http_status``.

    :param request: what an ``http`` task of a workflow has as its arguments: ``url``, or ``connection`` (an Airflow
        connection of type HTTP) and ``path``; ``method``, ``headers``, ``params``; ``body``, ``json`` or ``form``;
        ``expected_status``, ``response``, ``results``, ``max_response_bytes``, ``timeout_seconds``,
        ``idempotency_key``, ``redirects``. Its templates are the language's, ``{{ context... }}``, not Airflow's.
    :param outputs: ``[{"name": ..., "mandatory": True}]``: the answer as it came, as an artifact.
    :raises InvalidArgument: when the request cannot be used.
    """

    spec_type = "http"
    trigger_class = "airflow_monai.triggers.http.HttpTrigger"
    custom_operator_name = "http"
    ui_color = "#dff1e6"

    def __init__(self, *, request: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]] = (), **kwargs: Any):
        from airflow_monai.specs.http_request import request_spec

        request_spec(request)
        super().__init__(task={"request": dict(request), "outputs": [dict(output) for output in outputs]}, **kwargs)


class HttpJobOperator(LightOperator):
    """Starts a job by an HTTP request, once, and follows it from the triggerer until it has ended.

    A triggerer that dies leaves the job to another one, which goes on following it. When a person ends the task, and at
    its time limit, ``cancel_url`` is called.

    :param request: what an ``http_async`` task of a workflow has as its arguments: those of an ``http`` task (see
        :class:`HttpRequestOperator`) for the request that starts the job, and ``job_id``, ``status_url``,
        ``status_key``, ``succeeded``, ``failed``, ``poll_interval``, ``result_url``, ``cancel_url``,
        ``cancel_method``, ``wait``.
    :param outputs: ``[{"name": ..., "mandatory": True}]``: the last answer as it came, as an artifact.
    :raises InvalidArgument: when the request cannot be used.
    """

    spec_type = "http_async"
    trigger_class = "airflow_monai.triggers.http_async.HttpJobTrigger"
    custom_operator_name = "http job"
    ui_color = "#dff1e6"

    def __init__(self, *, request: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]] = (), **kwargs: Any):
        from airflow_monai.specs.http_job import job_spec

        job_spec(request)
        super().__init__(task={"request": dict(request), "outputs": [dict(output) for output in outputs]}, **kwargs)
