"""The two tasks of a workflow's batch: select payloads in the store, and keep runs of the workflow going on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped
from airflow.triggers.base import StartTriggerArgs

from airflow_monai.errors import InvalidArgument, MonaiError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_monai.batches.selection import Selected
    from airflow_monai.specs.plan import Selection, WorkflowPlan

TRIGGER = "airflow_monai.triggers.batch.BatchTrigger"
_SHOWN = 50


class SelectPayloadsOperator(BaseOperator):
    """
    Select the payloads that a workflow's batch takes, and write the list into the store, once for all.

    A retry, and a cleared task, find the list of the first time: only a new run of the batch selects anew. What a
    person enters into the form (``study_instance_uids``, ``received_after``, ``received_before``, ``limit``,
    ``include_processed``) goes before what the workflow file says; with ``dry_run`` nothing is started. The return
    value says how many payloads are taken and how many are not, by reason.

    :param workflow: the workflow, which has a schedule.
    """

    custom_operator_name = "select payloads"
    ui_color = "#e6def2"

    def __init__(self, *, workflow: WorkflowPlan, **kwargs: Any):
        super().__init__(**kwargs)
        self.workflow = workflow

    def execute(self, context: Context) -> Any:
        from airflow_monai import settings
        from airflow_monai.batches.ledger import BatchPlan, load_plan
        from airflow_monai.store import open_store

        store, batch = open_store(settings.load().store), context["run_id"]
        known = load_plan(store, self.workflow.dag_id, batch)
        if known is not None:
            self.log.info("This batch has its list of %s payloads already; it goes on with that", len(known.payloads))
            return {"taken": len(known.payloads)}
        given = dict(context["params"])
        try:
            wish, selected = self._select(store, given)
        except InvalidArgument as error:
            raise AirflowFailException(str(error)) from error
        value = {"taken": len(selected.payloads), "passed_over": selected.passed_over}
        self._tell(selected)
        if given.get("dry_run") or not selected.payloads:
            self.log.info("Nothing is started%s", ": this is a dry run" if given.get("dry_run") else "")
            context["ti"].xcom_push(key="return_value", value=value)
            raise DownstreamTasksSkipped(tasks=sorted(self.downstream_task_ids))
        plan = BatchPlan(self.workflow.dag_id, batch, self.workflow.version, wish.include_processed, selected.payloads)
        return {**value, "taken": len(plan.keep(store).payloads)}

    def _select(self, store: Any, given: Mapping[str, Any]) -> tuple[Selection, Selected]:
        from datetime import datetime, timezone

        from airflow_monai.batches.selection import select, with_overrides

        schedule = self.workflow.schedule
        assert schedule is not None
        wish = with_overrides(schedule.select, given)
        limit = given.get("limit") or schedule.limit
        return wish, select(store, self.workflow, wish, datetime.now(timezone.utc), limit and int(limit))

    def _tell(self, selected: Selected) -> None:
        self.log.info("%s of %s payloads are taken", len(selected.payloads), len(selected.verdicts))
        for reason, count in selected.passed_over.items():
            self.log.info("%s not taken: %s", count, reason)
        for payload_id in selected.payloads[:_SHOWN]:
            self.log.info("taken: %s", payload_id)
        if len(selected.payloads) > _SHOWN:
            self.log.info("... and %s more", len(selected.payloads) - _SHOWN)


class StartRunsOperator(BaseOperator):
    """
    Start a run of the workflow on each payload of the batch's list, so many at once, until all have ended.

    It lives in the triggerer and costs no worker process. A triggerer that dies hands it to another one, which goes on
    where it was: each payload gets exactly one run. A run that fails stops no other; when all have ended this task
    fails if one of them did. Ended by a person it starts nothing more, and leaves the runs that are going alone.

    :param workflow_dag_id: the DAG whose runs are started.
    :param max_active: runs of this batch that may be queued or running at once.
    """

    template_fields: Sequence[str] = ("batch",)
    custom_operator_name = "start runs"
    ui_color = "#e6def2"
    start_from_trigger = True

    def __init__(self, *, workflow_dag_id: str, max_active: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.batch = "{{ run_id }}"
        self.workflow_dag_id = workflow_dag_id
        self.max_active = max_active
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER, next_method="finish", trigger_kwargs=self._trigger_kwargs(), timeout=None
        )

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {"workflow_dag_id": self.workflow_dag_id, "batch": self.batch, "max_active": self.max_active}

    def execute(self, context: Context) -> None:
        """Only where no triggerer starts the task by itself (Airflow's DAG test mode): hand over to the trigger."""
        from airflow_monai.triggers.batch import BatchTrigger

        self.defer(trigger=BatchTrigger(**self._trigger_kwargs()), method_name="finish")

    def finish(self, context: Context, event: Any = None) -> None:
        """End as the trigger's event says; called in DAG test mode only."""
        if str(event) != "success":
            raise MonaiError("The batch did not end well; the trigger's log says why.")
