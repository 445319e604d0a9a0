"""Wait for a study, in a DAG written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow_monai.sensors.watch import WatchSensor

RUN_START = "{{ (dag_run.start_date or dag_run.run_after).isoformat() }}"


class PayloadArrivedSensor(WatchSensor):
    """Wait until a payload is complete, and return its id: what ``payload_id`` of the other operators wants.

    A DAG made from a workflow file does not need it: there the gateway starts a run for each payload.

    :param ae_title: the called AE title that the study is sent to (templated).
    :param since: ISO 8601 time with offset; only a payload that was complete after it counts. The run's start by
        default (templated).
    :param study_instance_uid: wait for this study; empty for the first that comes (templated). Airflow keeps it in its
        database.
    :param poll_interval: seconds between two looks at the store.
    :param timeout: give up and fail after this time.
    """

    template_fields: Sequence[str] = ("ae_title", "since", "study_instance_uid")
    trigger = "airflow_monai.triggers.payload.PayloadTrigger"

    def __init__(
        self,
        *,
        ae_title: str,
        since: str = RUN_START,
        study_instance_uid: str = "",
        poll_interval: float = 2.0,
        timeout: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ):
        arguments = {"ae_title": ae_title, "since": since, "study_instance_uid": study_instance_uid}
        super().__init__(arguments=arguments, poll_interval=poll_interval, timeout=timeout, **kwargs)
