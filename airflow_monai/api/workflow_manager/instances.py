"""Workflow instances: what runs and ran, what failed, and who took note of it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException, Query

from airflow_monai.api.common.access import Right, TheCaller
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.problems import responses
from airflow_monai.api.instances.runs import RunFilter, list_runs, runs_of, tasks_of
from airflow_monai.api.runs import site_store
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.api.workflow_manager.executions import Teller, failed_executions
from airflow_monai.api.workflow_manager.models import WorkflowInstance
from airflow_monai.api.workflow_manager.paging import Page, ThePaging
from airflow_monai.api.workflow_manager.rows import failed_runs, the_run, visible_workflows
from airflow_monai.api.workflow_manager.statuses import InstanceStatus, states_of
from airflow_monai.store.acknowledgements import acknowledge, note_whole, whole_names

MAX_LIST = 100
"""Instances of a page, or of a list that is not paged: of each task of theirs the store is asked."""
MAX_FAILED = 300
"""Failed instances of a list that is not paged; a page shows any."""

router = APIRouter(prefix=f"{PREFIX}/workflowinstances", tags=["Workflow Manager: instances"])


@router.get("", responses=responses(400))
def list_instances(
    caller: TheCaller,
    paging: ThePaging,
    status: Annotated[InstanceStatus | None, Query(description="Only those with this status.")] = None,
    payload_id: Annotated[UUID | None, Query(alias="payloadId", description="Only those on this payload.")] = None,
    disable_paging: Annotated[
        bool, Query(alias="disablePagination", description=f"A bare list of the newest {MAX_LIST}.")
    ] = False,
) -> Page[WorkflowInstance] | list[WorkflowInstance]:
    """The workflow instances that the caller may see, the newest first."""
    paging = paging.at_most(MAX_LIST)
    with create_session() as session:
        wanted = RunFilter(
            dag_ids=visible_workflows(caller, Right.SEE_RUNS, session),
            states=states_of(status) if status else None,
            payload_id=str(payload_id) if payload_id else None,
        )
        limit, offset = (MAX_LIST, 0) if disable_paging else (paging.size, paging.offset)
        runs = list_runs(session, wanted, limit=limit, offset=offset)
        tasks = tasks_of(session, [run.name for run in runs.items])
    told = Teller(site_store(), caller).instances(runs.items, tasks)
    return told if disable_paging else paging.page(told, runs.total)


@router.get("/failed", responses=responses(400))
def list_failed(caller: TheCaller, paging: ThePaging) -> Page[WorkflowInstance] | list[WorkflowInstance]:
    """The failed workflow instances, the newest first, of whose failures nobody has taken note yet: a page, where one
    is asked for, or a list of at most 300.
    """
    paging = paging.at_most(MAX_LIST)
    store, teller = site_store(), Teller(site_store(), caller)
    offset, size = (paging.offset, paging.size) if paging.is_asked else (0, MAX_FAILED)
    with create_session() as session:
        dag_ids = visible_workflows(caller, Right.SEE_RUNS, session)
        found = failed_runs(session, dag_ids, whole_names(store))
        told: list[WorkflowInstance] = []
        while len(told) < size and (more := found[offset + len(told) : offset + size]):
            runs = runs_of(session, [one.name for one in more])
            shown = [runs[one.name] for one in more if one.name in runs]
            tasks, kept = tasks_of(session, [run.name for run in shown]), set()
            for run, instance in zip(shown, teller.instances(shown, tasks), strict=True):
                if instance.acknowledged_workflow_errors is None:
                    told.append(instance)
                    kept.add(run.name)
                else:  # somebody died between taking note of the last failure and of the whole
                    note_whole(store, run.instance_id, run.ended)
            gone = {one.name for one in more} - kept
            found = [one for one in found if one.name not in gone]
    return paging.page(told, len(found)) if paging.is_asked else told


@router.get("/{instance_id}", responses=responses(400, 404))
def one_instance(caller: TheCaller, instance_id: UUID) -> WorkflowInstance:
    """One workflow instance."""
    with create_session() as session:
        run = the_run(caller, Right.SEE_RUNS, str(instance_id), session)
        tasks = tasks_of(session, [run.name])
    return Teller(site_store(), caller).instances([run], tasks)[0]


@router.put("/{instance_id}/executions/{execution_id}/acknowledge", responses=responses(400, 404))
def acknowledge_failure(caller: TheCaller, instance_id: UUID, execution_id: UUID) -> WorkflowInstance:
    """Take note of the failure of a task; of an instance that failed without a failed task, by its own id in place of
    an execution's. Who is first counts; saying it again changes nothing.
    """
    with create_session() as session:
        run = the_run(caller, Right.CHANGE_RUNS, str(instance_id), session)
        tasks = tasks_of(session, [run.name])
    teller = Teller(site_store(), caller)
    (instance,) = teller.instances([run], tasks)
    if instance.status is not InstanceStatus.FAILED:
        raise HTTPException(400, "The workflow instance has not failed.")
    wanted = str(execution_id)
    if wanted not in failed_executions(instance.id, instance.tasks):
        if any(task.execution_id == wanted for task in instance.tasks):
            raise HTTPException(400, "The task has not failed.")
        raise HTTPException(404, "The workflow instance has no such task execution.")
    if acknowledge(site_store(), instance.id, wanted, caller.name):
        note(caller, "monai.instance.acknowledge", dag_id=run.dag_id, run_id=run.run_id, extra={"execution": wanted})
    told = teller.instances([run], tasks)[0]
    if told.acknowledged_workflow_errors is not None:
        note_whole(site_store(), run.instance_id, run.ended)
    return told
