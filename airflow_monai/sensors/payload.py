"""Wait for a study, in a DAG written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import StartTriggerArgs

if TYPE_CHECKING:
    from airflow.sdk import Context

RUN_START = "{{ (dag_run.start_date or dag_run.run_after).isoformat() }}"
TRIGGER = "airflow_monai.triggers.payload.PayloadTrigger"


class PayloadArrivedSensor(BaseOperator):
    """Wait until a payload is complete, and return its id: what ``payload_id`` of the other operators wants.

    It waits in the triggerer, and needs a worker only for the moment in which it returns. A DAG made from a workflow
    file does not need it: there the gateway starts a run for each payload.

    :param ae_title: the called AE title that the study is sent to (templated).
    :param since: ISO 8601 time with offset; only a payload that was complete after it counts. The run's start by
        default (templated).
    :param study_instance_uid: wait for this study; empty for the first that comes (templated). Airflow keeps it in its
        database.
    :param poll_interval: seconds between two looks at the store.
    :param timeout: give up and fail after this time.
    """

    template_fields: Sequence[str] = ("ae_title", "since", "study_instance_uid")
    ui_color = "#e6def2"
    start_from_trigger = True

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
        super().__init__(**kwargs)
        self.ae_title = ae_title
        self.since = since
        self.study_instance_uid = study_instance_uid
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER, next_method="finish", trigger_kwargs=self._trigger_kwargs(), timeout=timeout
        )

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {
            "ae_title": self.ae_title,
            "since": self.since,
            "study_instance_uid": self.study_instance_uid,
            "poll_interval": self.poll_interval,
        }

    def execute(self, context: Context) -> None:
        """Only where no triggerer starts the task by itself (Airflow's DAG test mode): hand over to the trigger."""
        from airflow_monai.triggers.payload import PayloadTrigger

        self.defer(trigger=PayloadTrigger(**self._trigger_kwargs()), method_name="finish", timeout=self.timeout)

    def finish(self, context: Context, event: str) -> str:
        """Return the payload that the trigger has found.

        The trigger could end the task by itself, but Airflow 3.3 stores a text that a trigger returns with quotes
        around it.
        """
        return event
