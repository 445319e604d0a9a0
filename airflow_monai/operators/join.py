"""Joins that a trigger rule cannot say: in mapped tasks, and after a failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from airflow_monai.errors import MonaiError
from airflow_monai.operators.light import TRIGGERER_AWAY, WHERE

if TYPE_CHECKING:
    from airflow.sdk import Context

TRIGGER = "airflow_monai.triggers.join.JoinTrigger"


class VerdictNode(EmptyOperator):
    """Ends as upstream_failed when something failed before a task that went on: so the run ends as failed."""

    custom_operator_name = "verdict"
    ui_color = "#f4f4f4"


class JoinOperator(BaseOperator):
    """Decides, when all ways into a task have ended, whether the task runs: when one of them was taken and ended well.

    It is skipped when none was taken, and fails when what was taken has failed; which failures stop it before that says
    its trigger rule (``none_failed`` or ``all_done``). Airflow's own rule for joins, in a mapped task, looks at all
    series together until the task has been expanded; its rule for what goes on after a failure takes a skipped
    predecessor for a reason to skip.

    It has no retries, because Airflow would also try its verdict again; the trigger repeats its questions itself.

    :param ways: ids of the nodes of the ways into the task.
    """

    template_fields: Sequence[str] = ("run_id", "map_index")
    custom_operator_name = "join"
    ui_color = "#f4f4f4"
    start_from_trigger = True

    def __init__(self, *, ways: Sequence[str], **kwargs: Any):
        super().__init__(retries=0, **kwargs)
        self.run_id = WHERE["run_id"]
        self.map_index = WHERE["map_index"]
        self.ways = list(ways)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER, next_method="finish", trigger_kwargs=self._trigger_kwargs(), timeout=TRIGGERER_AWAY
        )

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {"dag_id": self.dag_id, "run_id": self.run_id, "map_index": self.map_index, "ways": self.ways}

    def execute(self, context: Context) -> None:
        """Only where no triggerer starts the task by itself (Airflow's DAG test mode): hand over to the trigger."""
        from airflow_monai.triggers.join import JoinTrigger

        self.defer(trigger=JoinTrigger(**self._trigger_kwargs()), method_name="finish", timeout=TRIGGERER_AWAY)

    def finish(self, context: Context, event: Any = None) -> None:
        """End as the trigger's event says; called in DAG test mode only."""
        state = str(event)
        if state == "skipped":
            raise AirflowSkipException("No way into the task was taken.")
        if state != "success":
            raise MonaiError("Nothing before the task ended well; the trigger's log says what was found.")
