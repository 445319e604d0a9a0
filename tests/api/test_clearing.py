"""What Airflow tells the next try of a task that a person clears while it runs, by Airflow's own functions.

Where the worker lives, it ends the task, and Airflow begins a new count of retries (``max_tries``), by which the next
try knows that it was cleared. Where it does not, the next try is counted as a retry; all that says otherwise is how
often anything of the run was cleared (:meth:`airflow_monai.store.runs.Fence.claim`).
"""

from __future__ import annotations

from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun as DagRunAsTold
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.utils.session import create_session
from sqlalchemy import select

from tests.api.airflow_rows import parse, run, set_task

WORKFLOW = """
name: cleared
version: 1.0.0
informatics_gateway: {ae_title: CLEARED}
tasks:
  - id: work
    type: map
    args: {map: "noop:1.0.0"}
    artifacts: {input: [{name: study, value: "{{ context.input.dicom }}"}], output: [{name: result, type: OT}]}
    retries: 2
"""


def test_a_task_that_is_cleared_while_it_runs_on_a_dead_worker_counts_as_a_retry_of_a_run_that_was_cleared(
    airflow_tables: str, site_store: object
) -> None:
    dag_id = parse(WORKFLOW)
    run(dag_id, "one", "running")
    set_task(dag_id, "one", "work", {"state": "running", "try_number": 1, "max_tries": 2})
    with create_session() as session:
        ti = session.scalars(select(TaskInstance).where(TaskInstance.task_id == "work")).one()
        clear_task_instances([ti], session)
    with create_session() as session:
        ti = session.scalars(select(TaskInstance).where(TaskInstance.task_id == "work")).one()
        assert (ti.state, ti.try_number, ti.max_tries) == ("restarting", 1, 2)
        ti.handle_failure("no heartbeat", session=session)
        assert (ti.state, ti.max_tries) == ("up_for_retry", 2)
        found = session.scalars(select(DagRun)).one()
        assert DagRunAsTold.model_validate(found, from_attributes=True).clear_number == 1
