"""Counts the series of a payload, for the tasks that run once for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


class SeriesOperator(BaseOperator):
    """Return ``[0, 1, ...]``, a number for each series of the run's payload, in the order of their UIDs.

    Mapped tasks expand over it. It needs a worker process, because Airflow cannot expand over what a trigger returns.

    :param payload_id: (templated) the payload, where the DAG run does not name it.
    """

    template_fields: Sequence[str] = ("payload_id",)
    custom_operator_name = "series"
    ui_color = "#e3ecf7"

    def __init__(self, *, payload_id: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.payload_id = payload_id

    def execute(self, context: Context) -> list[int]:
        from airflow.sdk.configuration import conf

        from airflow_monai import settings
        from airflow_monai.errors import NoPayload, PayloadNotFound
        from airflow_monai.operators.base import payload_id_from
        from airflow_monai.store import open_store
        from airflow_monai.store.payloads import load_payload, series_of

        try:
            payload = load_payload(open_store(settings.load().store), payload_id_from(context))
        except (NoPayload, PayloadNotFound) as error:
            raise AirflowFailException(str(error)) from error  # a retry would find the same
        count = len(series_of(payload))
        limit = conf.getint("core", "max_map_length", fallback=1024)
        if not count:
            raise AirflowFailException(
                f"Payload {payload.payload_id} has no images, so no task can run for each series."
            )
        if count > limit:
            raise AirflowFailException(
                f"Payload {payload.payload_id} has {count} series, and Airflow runs a task for {limit} at most: raise "
                "[core] max_map_length, or select with a task that runs once for the study."
            )
        self.log.info("The payload has %d series", count)
        return list(range(count))
