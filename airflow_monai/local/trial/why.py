"""Why a task of a trial was skipped: the conditions of its ways, judged once more."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_monai.local.trial.watch import TaskState
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.specs.edges import judge_edge
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.store.payloads import load_series_tags, series_of
from airflow_monai.store.runs import RunFolder
from airflow_monai.types import Payload, SeriesTags, TaskRecord


def why_skipped(
    task: TaskState, states: Sequence[TaskState], plan: WorkflowPlan, folder: RunFolder, payload: Payload, given: dict
) -> list[str]:
    """A reason for each way to the task that was not taken, and whose source has run.

    :param given: parameters of the run.
    """
    ran = {item.task_id for item in states if item.state == "success"}
    context = _context(task.map_index, plan, folder, payload, given)
    ways = [edge for edge in plan.edges if edge.target == task.task_id and edge.source in ran]
    verdicts = [(edge.source, judge_edge(edge.conditions, context)) for edge in ways]
    return [f"from {source}: {verdict.reason}" for source, verdict in verdicts if not verdict.taken]


def _context(map_index: int, plan: WorkflowPlan, folder: RunFolder, payload: Payload, given: dict) -> ExecutionContext:
    """What the conditions saw; in a task that runs for each series, of its own series."""

    def record(task_id: str) -> TaskRecord | None:
        own = folder.record(task_id, map_index) if map_index >= 0 else None
        return own or folder.record(task_id)

    def tags() -> SeriesTags:
        known = load_series_tags(folder.store, payload.payload_id)
        series = series_of(payload)
        return (
            known if map_index < 0 else {uid: known[uid] for uid in series[map_index : map_index + 1] if uid in known}
        )

    return ExecutionContext(
        payload=payload,
        series_tags=tags,
        task_record=record,
        task_records=folder.records,
        workflow_name=plan.name,
        workflow_description=plan.description,
        params={param.name: given.get(param.name, param.default) for param in plan.params},
    )
