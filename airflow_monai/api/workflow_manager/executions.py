"""Makes workflow instances and tasks of what Airflow's tables, the store and the workflows say of them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow_monai.api.common.access import Caller, Right
from airflow_monai.api.common.audit import note
from airflow_monai.api.common.wording import without_places
from airflow_monai.api.instances.ids import RunName
from airflow_monai.api.instances.runs import Run, Task
from airflow_monai.api.workflow_manager.models import TaskExecution, WorkflowInstance
from airflow_monai.api.workflow_manager.statuses import (
    INSTANCE_STATES,
    OPERATORS,
    TASK_STATES,
    WITHOUT_RECORD,
    InstanceStatus,
    reason_of,
    task_status,
)
from airflow_monai.errors import PayloadNotFound, StoreError
from airflow_monai.factory.past_plans import PastPlans
from airflow_monai.maps.doubts import is_secret
from airflow_monai.specs.plan import TaskPlan, WorkflowPlan
from airflow_monai.store.acknowledgements import acknowledged
from airflow_monai.store.base import Store
from airflow_monai.store.payloads import dicom_key, payload_id_in, payload_key
from airflow_monai.store.runs import CANCELED, Fence, RunFolder
from airflow_monai.types import TaskRecord, TaskStatus

_READERS = 16
_NOT_SHOWN = "(not shown)"
_USER = re.compile(r"//[^/@\s]+@")
_FILLED = re.compile(r"context\.executions\.([\w-]+)\.artifacts\.([\w-]+)")
_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
past_plans = PastPlans()
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store holds of a task.

    :param generation: the present one.
    """

    generation: int = 1
    record: TaskRecord | None = None
    is_canceled: bool = False


@dataclass(frozen=True, slots=True)
class Workflow:
    """What the site says of a workflow; of one that is gone only its name.

    :param plan: as it is now, or as it was when a run was made.
    """

    id: str
    name: str
    plan: WorkflowPlan | None = None

    def task(self, task_id: str) -> TaskPlan | None:
        return next((task for task in self.plan.tasks if task.id == task_id), None) if self.plan else None


def workflows_of(dag_ids: Collection[str]) -> dict[str, Workflow]:
    """DAG id -> its workflow, at one look at the site's workflows."""
    from airflow_monai.api.workflow_manager.workflows import the_site
    from airflow_monai.workflows.catalog import fixed_id

    found: dict[str, Workflow] = {}
    here = the_site().catalog.by_dag() if dag_ids else {}
    for dag_id in dag_ids:
        known, plan = here.get(dag_id, (None, None))
        named = (known.workflow_id, known.name) if known else (fixed_id(dag_id), dag_id)
        found[dag_id] = Workflow(*named, plan)
    return found


def workflows_of_runs(store: Store, runs: Collection[Run]) -> dict[RunName, Workflow]:
    """Each run's workflow, with the plan by which the run goes: that of the version with which it began."""
    now = workflows_of({run.dag_id for run in runs})
    then = past_plans.plans(store, [(run.version, run.dag_id) for run in runs if run.version])
    return {
        run.name: replace(now[run.dag_id], plan=then.get((run.version, run.dag_id)) or now[run.dag_id].plan)
        for run in runs
    }


def payload_id_of_run(run: Run) -> str:
    """The payload that a run works on; empty where nothing tells."""
    return run.payload_id or payload_id_in(run.run_id)


def is_reached(task: Task) -> bool:
    """Whether it is one of the workflow's own tasks, and the workflow has come to it."""
    return task.operator in OPERATORS and task.state in TASK_STATES


def execution_id_of(folder: RunFolder | None, task: Task, generation: int) -> str:
    """As the task itself makes it (:class:`airflow_monai.operators.base.TaskRun`); of a run that works on no payload
    its tasks make none, and all fail."""
    if folder is None:
        return task.id
    return str(uuid.uuid5(uuid.NAMESPACE_OID, folder.output_key(task.task_id, task.map_index, generation)))


def folder_of(store: Store, run: Run) -> RunFolder | None:
    """None for a run that works on no payload."""
    payload_id = payload_id_of_run(run)
    try:
        payload_key(payload_id)
    except PayloadNotFound:
        return None
    return RunFolder(store, payload_id.strip().lower(), run.dag_id, run.run_id)


def facts_of(folder: RunFolder | None, task: Task) -> Facts:
    """A record that cannot be read is none: one must not hide all others."""
    if folder is None or task.operator in WITHOUT_RECORD:
        return Facts()
    try:
        record = folder.record(task.task_id, task.map_index)
    except StoreError:
        record = None
    generation = record.generation if record else 0
    if not task.has_ended or record is None:
        generation = max(generation, Fence(folder, task.task_id, task.map_index, 0).last().generation)
        record = record if record and record.generation == generation else None
    generation = generation or 1
    note_key = folder.note_key(task.task_id, task.map_index, generation, CANCELED)
    return Facts(generation, record, task.state == "failed" and folder.store.exists(note_key))


def in_parallel(store: Store, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Of a bucket many objects at a time are asked for."""
    if store.local_path("payloads") is not None or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(_READERS, len(items))) as pool:
        return list(pool.map(work, items))


class Teller:
    """Tells a caller of instances and tasks. Results are for those who may read data, which is noted."""

    def __init__(self, store: Store, caller: Caller):
        self._store = store
        self._caller = caller

    def instances(self, runs: Sequence[Run], tasks: Mapping[RunName, Sequence[Task]]) -> list[WorkflowInstance]:
        workflows = workflows_of_runs(self._store, runs)
        readable = self._caller.of_dags(Right.READ_DATA, {run.dag_id for run in runs})
        told = in_parallel(
            self._store,
            lambda run: self._instance(run, tasks.get(run.name, ()), workflows[run.name], run.dag_id in readable),
            runs,
        )
        self._note(instance.id for instance in told if any(task.result for task in instance.tasks))
        return told

    def tasks(self, tasks: Sequence[Task], runs: Mapping[RunName, Run]) -> list[TaskExecution]:
        """Tasks of several runs, without what others of the same run would tell of them."""
        workflows = workflows_of_runs(self._store, runs.values())
        readable = self._caller.of_dags(Right.READ_DATA, {task.dag_id for task in tasks})

        def tell(task: Task) -> TaskExecution:
            run = runs[task.run]
            folder = folder_of(self._store, run)
            facts = facts_of(folder, task)
            taken = acknowledged(self._store, run.instance_id) if task.state == "failed" else {}
            return _execution(run, folder, task, facts, workflows[task.run], {}, taken, task.dag_id in readable)

        told = in_parallel(self._store, tell, [task for task in tasks if task.run in runs])
        self._note({task.workflow_instance_id for task in told if task.result})
        return told

    def _note(self, instance_ids: Iterable[str]) -> None:
        ids = sorted(instance_ids)
        if ids:
            note(self._caller, "monai.result.read", extra={"instances": ids[:100], "count": len(ids)})

    def _instance(self, run: Run, tasks: Sequence[Task], workflow: Workflow, may_read: bool) -> WorkflowInstance:
        folder = folder_of(self._store, run)
        reached = [task for task in tasks if is_reached(task)]
        facts = [facts_of(folder, task) for task in reached]
        records = {item.record.task_id: item.record for item in facts if item.record}
        status = INSTANCE_STATES.get(run.state, InstanceStatus.CREATED)
        taken = acknowledged(self._store, run.instance_id) if status is InstanceStatus.FAILED else {}
        executions = [
            _execution(run, folder, task, item, workflow, records, taken, may_read)
            for task, item in zip(reached, facts, strict=True)
        ]
        return WorkflowInstance(
            id=run.instance_id,
            ae_title=workflow.plan.ae_title if workflow.plan else "",
            workflow_name=workflow.name,
            workflow_id=workflow.id,
            payload_id=payload_id_of_run(run),
            start_time=run.started or run.created,
            status=status,
            tasks=executions,
            acknowledged_workflow_errors=_all_acknowledged(run.instance_id, executions, taken),
        )


def _all_acknowledged(
    instance_id: str, executions: Iterable[TaskExecution], taken: Mapping[str, Mapping[str, Any]]
) -> datetime | None:
    """When the last failure was taken note of; None as long as one was not."""
    failed = failed_executions(instance_id, executions)
    times = [taken[name]["at"] for name in failed if name in taken]
    return datetime.fromisoformat(max(times)) if times and len(times) == len(failed) else None


def failed_executions(instance_id: str, executions: Iterable[TaskExecution]) -> list[str]:
    """Ids of a failed instance's failures; where no task failed, as when a run took too long, its own id."""
    bad = (TaskStatus.FAILED, TaskStatus.CANCELED)
    return [task.execution_id for task in executions if task.status in bad] or [instance_id]


def _execution(
    run: Run,
    folder: RunFolder | None,
    task: Task,
    facts: Facts,
    workflow: Workflow,
    records: Mapping[str, TaskRecord],
    taken: Mapping[str, Mapping[str, Any]],
    may_read: bool,
) -> TaskExecution:
    record, plan = facts.record, workflow.task(task.task_id)
    status = task_status(task.state, record, is_canceled=facts.is_canceled or _ended_with_run(run, task))
    limit = plan.timeout_minutes if plan and plan.timeout_minutes else None
    execution_id = execution_id_of(folder, task, facts.generation)
    at = taken.get(execution_id, {}).get("at")
    return TaskExecution(
        execution_id=execution_id,
        workflow_instance_id=run.instance_id,
        task_id=task.task_id,
        map_index=task.map_index,
        task_type=OPERATORS[task.operator].value,
        task_start_time=task.started,
        task_end_time=task.ended if task.has_ended else None,
        execution_stats={key: value for key, value in record.stats.items() if _is_plain(value)} if record else {},
        task_plugin_arguments=without_secrets(plan.args) if plan else {},
        previous_task_id=(record.previous_task_id if record else plan.previous[0] if plan and plan.previous else "")
        or "",
        status=status,
        reason=reason_of(status, record),
        error_message=without_places(record.error_msg or "") or None
        if record and status is TaskStatus.FAILED
        else None,
        input_artifacts=_inputs(plan, folder, records) if plan else {},
        output_artifacts=_outputs(record) if record else {},
        output_directory=record.output_dir if record else None,
        result=dict(record.result) if record and may_read else None,
        next_timeout=task.started + timedelta(minutes=limit) if limit and task.started and not task.has_ended else None,
        timeout_interval=limit,
        acknowledged_task_errors=datetime.fromisoformat(at) if at else None,
    )


def _ended_with_run(run: Run, task: Task) -> bool:
    """Whether it was stopped because somebody cancelled the whole run."""
    if run.cancelled is None or task.ended is None:
        return False
    try:
        return task.ended >= datetime.fromisoformat(str(run.cancelled.get("at")))
    except (ValueError, TypeError):
        return False


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))


def without_secrets(value: Any, name: str = "") -> Any:
    """A task's arguments as they may be told: without what by its name, or by its place in an address, is a secret."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, name) for item in value]
    if name and (is_secret(name) or name.lower() in _HEADERS) and value not in (None, "", False, True):
        return _NOT_SHOWN
    return _USER.sub(f"//{_NOT_SHOWN}@", value) if isinstance(value, str) else value


def _inputs(plan: TaskPlan, folder: RunFolder | None, records: Mapping[str, TaskRecord]) -> dict[str, str]:
    """Name -> folder in the store, where it is known; else what the workflow says."""
    return {item.name: _input(item.value, folder, records) for item in plan.inputs}


def _input(value: str, folder: RunFolder | None, records: Mapping[str, TaskRecord]) -> str:
    if "context.input.dicom" in value and folder is not None:
        return dicom_key(folder.payload_id)
    found = _FILLED.search(value)
    made = _outputs(records[found[1]]) if found and found[1] in records else {}
    return made.get(found[2], value) if found else value


def _outputs(record: TaskRecord) -> dict[str, str]:
    """Name -> folder. Names of files may tell of a patient."""
    return {name: _folder(record, keys) for name, keys in record.artifacts.items() if keys}


def _folder(record: TaskRecord, keys: Sequence[str]) -> str:
    top = record.output_dir or ""
    below = keys[0].removeprefix(f"{top}/").split("/")
    return f"{top}/{below[0]}" if top and keys[0].startswith(f"{top}/") and len(below) > 1 else top
