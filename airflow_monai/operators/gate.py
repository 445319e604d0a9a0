"""The nodes of a workflow that cost no worker process: routers, edges, and gates in the triggerer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from airflow_monai.errors import MonaiError
from airflow_monai.operators.light import TRIGGERER_AWAY, WHERE

if TYPE_CHECKING:
    from airflow.sdk import Context

TRIGGER = "airflow_monai.triggers.gate.GateTrigger"
GATE_RETRIES = 3
GATE_RETRY_DELAY = timedelta(seconds=10)


class RouterOperator(EmptyOperator):
    """A task that only divides: the scheduler ends it itself, its edges decide."""

    custom_operator_name = "router"
    ui_color = "#e3ecf7"


class EdgeNode(EmptyOperator):
    """The way from one task to another; the ending task skips it when its conditions do not hold."""

    custom_operator_name = "edge"
    ui_color = "#f4f4f4"


class GateOperator(BaseOperator):
    """A conditional edge that leaves a task without a worker process: judged in the triggerer.

    It ends as success when all conditions hold, else as skipped, with the reason in the XCom ``edge``. Only ids and the
    text of the spec are handed to the trigger, because Airflow keeps a trigger's arguments; values are read in the
    triggerer, from the store.

    :param conditions: all must hold; one that cannot be evaluated counts as not holding.
    :param behind: ids of the tasks that can be reached over this edge: when it is not taken, what they left in an
        earlier round, before somebody cleared the task before it, no longer counts.
    :param workflow_name: and ``workflow_description``: what ``context.workflow`` means in conditions.
    :param workflow_params: defaults of ``context.params``; a run's conf overrides them.
    :param for_each: ``series`` in a mapped task: of the payload only the series that its map index counts is seen.
    :param payload_id: (templated) the payload; by default the run's partition key, else ``payload_id`` of its conf.
    """

    template_fields: Sequence[str] = ("payload_id", "run_id", "map_index", "conf")
    custom_operator_name = "condition"
    ui_color = "#fdf3d8"
    start_from_trigger = True

    def __init__(
        self,
        *,
        conditions: Sequence[str],
        behind: Sequence[str] = (),
        workflow_name: str = "",
        workflow_description: str = "",
        workflow_params: Mapping[str, Any] | None = None,
        for_each: str | None = None,
        payload_id: str = WHERE["payload_id"],
        retries: int = GATE_RETRIES,
        retry_delay: timedelta = GATE_RETRY_DELAY,
        **kwargs: Any,
    ):
        super().__init__(retries=retries, retry_delay=retry_delay, **kwargs)
        self.payload_id = payload_id
        self.run_id = WHERE["run_id"]
        self.map_index = WHERE["map_index"]
        self.conf = WHERE["conf"]
        self.conditions = list(conditions)
        self.behind = list(behind)
        self.workflow_name = workflow_name
        self.workflow_description = workflow_description
        self.workflow_params = dict(workflow_params or {})
        self.for_each = for_each
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER, next_method="finish", trigger_kwargs=self._trigger_kwargs(), timeout=TRIGGERER_AWAY
        )

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {
            "payload_id": self.payload_id,
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "conditions": self.conditions,
            "behind": self.behind,
            "workflow_name": self.workflow_name,
            "workflow_description": self.workflow_description,
            "workflow_params": self.workflow_params,
            "for_each": self.for_each,
            "map_index": self.map_index,
            "conf": self.conf,
        }

    def execute(self, context: Context) -> None:
        """Only where no triggerer starts the task by itself (Airflow's DAG test mode): hand over to the trigger."""
        from airflow_monai.triggers.gate import GateTrigger

        self.defer(trigger=GateTrigger(**self._trigger_kwargs()), method_name="finish", timeout=TRIGGERER_AWAY)

    def finish(self, context: Context, event: Any = None) -> None:
        """End a task that failed for good although it has tries left, which a trigger alone cannot; in DAG test mode,
        end as the trigger's event says."""
        if isinstance(event, Mapping) and "failed" in event:
            raise AirflowFailException(str(event["failed"]))
        state = str(event)
        if state == "skipped":
            raise AirflowSkipException("The edge is not taken; the trigger's log says why.")
        if state != "success":
            raise MonaiError("The edge could not be judged; the trigger's log says why.")
