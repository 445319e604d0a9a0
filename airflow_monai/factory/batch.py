"""The companion DAG of a workflow with a schedule: it starts the workflow on payloads that are in the store."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, CronTriggerTimetable, Param

from airflow_monai.factory.builder import OWNER, tags_of
from airflow_monai.factory.docs import batch_doc
from airflow_monai.operators.batch import SelectPayloadsOperator, StartRunsOperator
from airflow_monai.priorities import WEIGHTS

if TYPE_CHECKING:
    from airflow_monai.specs.plan import Schedule, WorkflowPlan

SELECT_RETRY_DELAY = timedelta(seconds=30)
_UIDS = "Study Instance UIDs, one a line: only these. Airflow keeps what you enter."
_TIME = "Only payloads that were complete {} this time. Empty: as the workflow file says."


def build_batch_dag(plan: WorkflowPlan, *, closing: bool = False) -> DAG | None:
    """The DAG that starts a workflow's batches; None for a workflow without a schedule.

    :param closing: nothing starts it any more; it is there for a batch that has begun.
    """
    schedule = plan.schedule
    if schedule is None:
        return None
    dag = DAG(
        plan.batch_dag_id,
        dag_display_name=f"{plan.name} (batch)",
        description=f"Starts {plan.name} on payloads that are in the store.",
        doc_md=batch_doc(plan, schedule),
        tags=tags_of(plan, "batch", *(["unregistered"] if closing else [])),
        params=_form(schedule),
        schedule=None if closing else CronTriggerTimetable(schedule.cron, timezone=schedule.timezone),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        max_consecutive_failed_dag_runs=0,
        disable_bundle_versioning=False,
    )
    common: dict[str, Any] = {
        "dag": dag,
        "owner": OWNER,
        "priority_weight": WEIGHTS[schedule.priority.value],
        "weight_rule": "absolute",
    }
    select = SelectPayloadsOperator(
        task_id="select", workflow=plan, retries=2, retry_delay=SELECT_RETRY_DELAY, **common
    )
    start = StartRunsOperator(
        task_id="start", workflow_dag_id=plan.dag_id, max_active=schedule.max_active, retries=0, **common
    )
    select >> start
    return dag


def _form(schedule: Schedule) -> dict[str, Param]:
    """What a person may say in place of the workflow file; a run by the clock says nothing."""
    time: dict[str, Any] = {"type": ["null", "string"], "format": "date-time"}
    select = schedule.select
    return {
        "study_instance_uids": Param(None, _UIDS, type=["null", "array"], items={"type": "string"}, title="Studies"),
        "received_after": Param(None, _TIME.format("at or after"), title="Received after", **time),
        "received_before": Param(None, _TIME.format("before"), title="Received before", **time),
        "limit": Param(
            None,
            "At most so many payloads, the oldest first. Empty: as the workflow file says.",
            type=["null", "integer"],
            minimum=1,
            title="Limit",
        ),
        "include_processed": Param(
            select.include_processed,
            "Also payloads that this version of the workflow has processed.",
            type="boolean",
            title="Include processed",
        ),
        "dry_run": Param(
            False, "Only tell what would be taken, in the log of the task select.", type="boolean", title="Dry run"
        ),
    }
