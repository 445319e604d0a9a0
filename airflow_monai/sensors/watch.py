"""What all sensors share: they wait in the triggerer, and need a worker only for the moment in which they return."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import StartTriggerArgs

if TYPE_CHECKING:
    from airflow.sdk import Context


class WatchSensor(BaseOperator):
    """Base of the sensors. A subclass names its trigger and sets the trigger's arguments as attributes of their names.

    Airflow keeps the arguments of a trigger in its database.

    :param poll_interval: seconds between two looks.
    :param timeout: give up and fail after this time.
    """

    trigger: ClassVar[str]
    """Import path of the trigger."""
    ui_color = "#e6def2"
    start_from_trigger = True

    def __init__(
        self,
        *,
        arguments: Mapping[str, Any],
        poll_interval: float,
        timeout: timedelta,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for name, value in arguments.items():
            setattr(self, name, value)
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.arguments = tuple(arguments)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=self.trigger, next_method="finish", trigger_kwargs=self._trigger_kwargs(), timeout=timeout
        )

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self.arguments, "poll_interval")}

    def execute(self, context: Context) -> None:
        """Only where no triggerer starts the task by itself (Airflow's DAG test mode): hand over to the trigger."""
        module, _, name = self.trigger.rpartition(".")
        trigger = getattr(import_module(module), name)
        self.defer(trigger=trigger(**self._trigger_kwargs()), method_name="finish", timeout=self.timeout)

    def finish(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Return what the trigger has found.

        The trigger could end the task by itself, but Airflow 3.3 stores a text that a trigger returns with quotes
        around it.
        """
        if "failed" in event:
            raise AirflowFailException(str(event["failed"]))
        return event["found"]
