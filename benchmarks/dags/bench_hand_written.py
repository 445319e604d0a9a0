"""The peers: the benchmark's workflow written by hand, and three no-op worker tasks (an Airflow DAG file)."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, BaseOperator, PartitionedAssetTimetable

from airflow_monai.operators.export import ExportOperator
from airflow_monai.operators.gate import GateOperator
from airflow_monai.operators.map import MapOperator

IS_CT = "{{ context.dicom.series.any('0008','0060') }} == 'CT'"


class NoOp(BaseOperator):
    """A worker task that does nothing."""

    def execute(self, context) -> None:
        return None


class BranchByModality(BaseOperator):
    """The router as a DAG author would write it: a worker task that reads the payload and skips what is not wanted."""

    def execute(self, context) -> None:
        from airflow.sdk.exceptions import DownstreamTasksSkipped

        from airflow_monai.operators.base import task_run_from
        from airflow_monai.specs.edges import judge_edge
        from airflow_monai.tasks.run import condition_context

        if not judge_edge([IS_CT], condition_context(task_run_from(context))).taken:
            raise DownstreamTasksSkipped(tasks=["segment"])


def hand_written(dag_id: str) -> DAG:
    return DAG(
        dag_id,
        schedule=PartitionedAssetTimetable(assets=Asset(f"x-monai://bench/{dag_id}")),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=64,
        max_active_tasks=64,
    )


def map_and_export(dag: DAG) -> tuple[MapOperator, ExportOperator]:
    segment = MapOperator(
        task_id="segment",
        dag=dag,
        map="noop:1.0.0",
        inputs=[{"name": "study", "value": "{{ context.input.dicom }}", "mandatory": True}],
        outputs=[{"name": "result", "type": "Folder", "value": None, "mandatory": True}],
    )
    deliver = ExportOperator(
        task_id="deliver",
        dag=dag,
        destinations=["ARCHIVE"],
        inputs=[{"name": "r", "value": "{{ context.executions.segment.artifacts.result }}", "mandatory": True}],
    )
    segment >> deliver
    return segment, deliver


three_noops = hand_written("bench_three_noops")
NoOp(task_id="one", dag=three_noops) >> NoOp(task_id="two", dag=three_noops) >> NoOp(task_id="three", dag=three_noops)

same_operators = hand_written("bench_same_operators")
GateOperator(task_id="route", dag=same_operators, conditions=[IS_CT]) >> map_and_export(same_operators)[0]

worker_branch = hand_written("bench_worker_branch")
BranchByModality(task_id="route", dag=worker_branch) >> map_and_export(worker_branch)[0]
