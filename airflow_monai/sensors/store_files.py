"""Wait for files in the store, in a DAG written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow_monai.sensors.watch import WatchSensor


class StoreFilesSensor(WatchSensor):
    """Wait until there are files below a prefix of the store and none has changed for a while; return how many.

    :param prefix: folder of the store, such as ``exchange/cohort-7`` (templated). Airflow keeps it in its database.
    :param at_least: so many files.
    :param stable_seconds: quiet time after the last change.
    :param poll_interval: seconds between two looks at the store.
    :param timeout: give up and fail after this time.
    """

    template_fields: Sequence[str] = ("prefix",)
    trigger = "airflow_monai.triggers.store_files.StoreFilesTrigger"

    def __init__(
        self,
        *,
        prefix: str,
        at_least: int = 1,
        stable_seconds: float = 10.0,
        poll_interval: float = 5.0,
        timeout: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ):
        arguments = {"prefix": prefix, "at_least": at_least, "stable_seconds": stable_seconds}
        super().__init__(arguments=arguments, poll_interval=poll_interval, timeout=timeout, **kwargs)
