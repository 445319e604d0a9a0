"""How the ways of a workflow come together where a trigger rule alone does not say it: for each series, after failures.

Tasks that run for each series stand in a mapped task group, with the nodes of all ways that leave them. In it every way
is of one series, and a join is a node of its own (:class:`JoinOperator`). A task without mapping before it counts the
series. A workflow without ``for_each`` and ``on_failure`` needs nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg
from airflow.sdk.definitions._internal.expandinput import DictOfListsExpandInput
from airflow.sdk.definitions.taskgroup import MappedTaskGroup

from airflow_monai.factory.ways import JOIN_RULE, connect
from airflow_monai.operators.base import SERIES_NAME
from airflow_monai.operators.gate import EdgeNode
from airflow_monai.operators.join import JoinOperator, VerdictNode
from airflow_monai.operators.series import SeriesOperator
from airflow_monai.specs.plan import Edge, OnFailure, TaskPlan, WorkflowPlan
from airflow_monai.specs.regions import Region, regions_of, series_task_id

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator

SERIES_RETRIES = 3
SERIES_RETRY_DELAY = timedelta(seconds=10)
VERDICT = "workflow.verdict"
"""Airflow id of the node that fails the run; ids of a spec hold no dots."""


@dataclass(frozen=True, slots=True)
class RegionNodes:
    """What the tasks of a region share in a DAG.

    :param series: the task that counts the series.
    :param entries: the nodes by which ways from outside come in.
    """

    region: Region
    group: MappedTaskGroup
    series: SeriesOperator
    entries: list[BaseOperator] = field(default_factory=list)

    def placing(self) -> dict[str, Any]:
        """Arguments of every operator of the region."""
        return {"task_group": self.group, "map_index_template": SERIES_NAME}


def region_nodes(dag: DAG, plan: WorkflowPlan, common: Mapping[str, Any]) -> dict[str, RegionNodes]:
    """Id of each task that runs for each series -> what its region has in the DAG.

    :param common: arguments of all operators.
    """
    mapped = [task.id for task in plan.tasks if task.for_each]
    found: dict[str, RegionNodes] = {}
    for region in regions_of(mapped, [(edge.source, edge.target) for edge in plan.edges]):
        nodes = _nodes_of(dag, region, _group_id(region, plan), common)
        found |= dict.fromkeys(region.tasks, nodes)
    return found


def _group_id(region: Region, plan: WorkflowPlan) -> str:
    """An id that no task has; unlike those of nodes, ids of groups hold no dots."""
    taken, wanted = {task.id for task in plan.tasks}, f"{region.first}-each"
    while wanted in taken:
        wanted += "_"
    return wanted


def _nodes_of(dag: DAG, region: Region, group_id: str, common: Mapping[str, Any]) -> RegionNodes:
    series = SeriesOperator(
        task_id=series_task_id(region),
        retries=SERIES_RETRIES,
        retry_delay=SERIES_RETRY_DELAY,
        doc_md=f"Counts the series of the study, for which run: {', '.join(f'`{task}`' for task in region.tasks)}.",
        **common,
    )
    group = MappedTaskGroup(
        group_id=group_id,
        prefix_group_id=False,
        dag=dag,
        parent_group=dag.task_group,
        group_display_name="for each series",
        tooltip="Runs once for each series of the study.",
        expand_input=DictOfListsExpandInput({"series": XComArg(series)}),
    )
    group.upstream_task_ids.add(series.task_id)  # by this the task knows that its list is what a group expands over
    return RegionNodes(region, group, series)


def has_own_join(task: TaskPlan) -> bool:
    """Whether a node before a join decides whether its task runs, and not the trigger rule of the task."""
    return task.is_join and (task.for_each is not None or task.on_failure is OnFailure.CONTINUE)


def weave(
    plan: WorkflowPlan,
    operators: Mapping[str, BaseOperator],
    ways: Iterable[tuple[Edge, BaseOperator]],
    regions: Mapping[str, RegionNodes],
    common: Mapping[str, Any],
) -> None:
    """Lead the ways into their tasks.

    :param ways: each edge with the node that comes before its target: its own, or its source.
    """
    arriving: dict[str, list[tuple[Edge, BaseOperator]]] = {}
    for edge, node in ways:
        arriving.setdefault(edge.target, []).append((edge, node))
    unforgotten: list[BaseOperator] = []
    for task in plan.tasks:
        arrivals = arriving.get(task.id, [])
        if has_own_join(task) and task.on_failure is OnFailure.CONTINUE:
            unforgotten += [node for _, node in arrivals]
        _lead_in(task, operators[task.id], arrivals, regions.get(task.id), common)
    for nodes in {id(nodes): nodes for nodes in regions.values()}.values():
        _lead_to_series(nodes, common)
    if unforgotten:
        verdict = VerdictNode(task_id=VERDICT, trigger_rule="none_failed", retries=0, **common)
        connect(unforgotten, verdict)


def _lead_in(
    task: TaskPlan,
    target: BaseOperator,
    arrivals: Sequence[tuple[Edge, BaseOperator]],
    nodes: RegionNodes | None,
    common: Mapping[str, Any],
) -> None:
    inside = nodes is not None and any(edge.source in nodes.region for edge, _ in arrivals)
    last = [node for _, node in arrivals]
    if has_own_join(task):
        place = nodes.placing() if nodes and inside else {}
        join = _join(task, last, by_rule=nodes is not None and not inside, common={**common, **place})
        connect(last, join)
        last = [join]
    connect(last, target)
    if nodes is None:
        return
    if not inside:
        connect([nodes.series], target)
        nodes.entries.extend(last)
    else:
        outside = [node for edge, node in arrivals if edge.source not in nodes.region]
        nodes.entries.extend(outside)
        if has_own_join(task):
            # it must not end before the series are counted: Airflow cannot expand it then
            connect([nodes.series], last[0])


def _join(task: TaskPlan, ways: Sequence[BaseOperator], by_rule: bool, common: Mapping[str, Any]) -> BaseOperator:
    named = {**common, "task_id": f"{task.id}.join"}
    if task.on_failure is OnFailure.CONTINUE:
        doc = f"`{task.id}` runs when all before it has ended, and something has ended well."
        return JoinOperator(ways=[way.task_id for way in ways], trigger_rule="all_done", doc_md=doc, **named)
    doc = f"`{task.id}` runs when all before it that was taken has ended well."
    if by_rule:
        return EdgeNode(trigger_rule=JOIN_RULE, retries=0, doc_md=doc, **named)
    return JoinOperator(ways=[way.task_id for way in ways], trigger_rule="none_failed", doc_md=doc, **named)


def _lead_to_series(nodes: RegionNodes, common: Mapping[str, Any]) -> None:
    """The series are counted as soon as one way leads to them, and not when none does.

    With several ways in, one of which failed, they are counted too: what only the others lead to is judged by these.
    """
    entries = list({entry.task_id: entry for entry in nodes.entries}.values())
    if len(entries) < 2:
        connect(entries, nodes.series)
        return
    unneeded = EdgeNode(
        task_id=f"{nodes.region.first}.unneeded",
        trigger_rule="all_skipped",
        retries=0,
        doc_md="Ends well when no way leads to the tasks for each series, so that the series are not counted.",
        **common,
    )
    connect(entries, unneeded)
    connect([unneeded], nodes.series)
    nodes.series.trigger_rule = unneeded.trigger_rule
