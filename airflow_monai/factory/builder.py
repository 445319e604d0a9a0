"""Plan to DAG. Knows Airflow and nothing of YAML.

One spec task is one Airflow task. Every conditional edge, and every edge into a join, is a node of its own that costs
no process: an :class:`EdgeNode` that the ending worker task skips, or after a light task a :class:`GateOperator` in the
triggerer. A join's predecessors are only such nodes, so that it runs when all that were taken ended well and one was.
What runs once for each series, or goes on after a failure, :mod:`airflow_monai.factory.joins` adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, PartitionedAssetTimetable

from airflow_monai.factory.docs import edge_doc, workflow_doc
from airflow_monai.factory.kinds import KINDS, TaskKind, TaskRequest
from airflow_monai.factory.kinds.base import params_of
from airflow_monai.factory.params import form_params
from airflow_monai.factory.uris import ae_uri, workflow_uri
from airflow_monai.factory.ways import JOIN_RULE, connect
from airflow_monai.operators.gate import EdgeNode, GateOperator
from airflow_monai.priorities import WEIGHTS, strategy_name
from airflow_monai.specs.claims import MAP_SUFFIX
from airflow_monai.specs.graph import reachable
from airflow_monai.specs.plan import Edge, ForEach, OnFailure, TaskPlan, TaskType, WorkflowPlan

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_monai.factory.joins import RegionNodes
    from airflow_monai.gpu.inventory import Inventory

OWNER = "monai"
MAX_ACTIVE_RUNS = 64
MAX_ACTIVE_TASKS = 64
RETRY_DELAY = timedelta(seconds=30)
MAX_RETRY_DELAY = timedelta(minutes=10)
TAG_LENGTH = 100  # Airflow's column


def site_inventory() -> Inventory | None:
    """The cards of this site, from the store; None where nobody recorded them."""
    from airflow_monai import settings
    from airflow_monai.gpu.inventory import load_inventory
    from airflow_monai.store import open_store

    return load_inventory(open_store(settings.load().store))


def build_dag(
    plan: WorkflowPlan,
    *,
    kinds: Mapping[TaskType, TaskKind] = KINDS,
    inventory: Callable[[], Inventory | None] = site_inventory,
    closing: bool = False,
) -> DAG:
    """The DAG of a workflow.

    :param closing: nothing starts it any more; it is there for the runs that it still has.
    :param kinds: how each task type is made; a test may give its own.
    :param inventory: gives the site's cards; asked only when a task wants one.
    :raises MonaiError: when a task asks for what the site can never give.
    """
    dag = _empty_dag(plan, closing)
    leaving = _edges_by_source(plan.edges)
    behind = _behind(plan)
    inventory = cache(inventory)
    regions = _regions(dag, plan)
    operators = {
        task.id: _make_task(
            dag, plan, task, leaving.get(task.id, ()), kinds[task.type], inventory, behind, regions.get(task.id)
        )
        for task in plan.tasks
    }
    # An edge that its source skips has to be there when the source ends: one of many series may not be expanded yet
    gated = {task.id for task in plan.tasks if task.for_each or kinds[task.type].has_gates}
    unawaited = _unawaited(plan)
    ways: list[tuple[Edge, BaseOperator]] = []
    for edge in plan.edges:
        source = operators[edge.source]
        if edge.node_id is None:
            ways.append((edge, source))
            continue
        gate = edge.source in gated and bool(edge.conditions)
        node = _edge_node(
            dag,
            plan,
            edge,
            behind(edge.target) if gate else None,
            regions.get(edge.source),
            rule="always" if edge.source in unawaited else "all_success",
        )
        connect([source], node)
        ways.append((edge, node))
    if regions or _goes_on(plan):
        from airflow_monai.factory.joins import weave

        weave(plan, operators, ways, regions, _everywhere(dag))
    else:
        for edge, node in ways:
            connect([node], operators[edge.target])
    # Last, since every operator would take a deep copy; and not as a whole, which Airflow would check again
    dag.params.update(form_params(plan))
    return dag


def _unawaited(plan: WorkflowPlan) -> set[str]:
    """Routers that the nodes behind them need not see ended, which saves the study a turn of the scheduler: those that
    begin the workflow and do nothing, so that they can only end well. One that runs for each series is not among them:
    Airflow lets nothing go ahead in a mapped group."""
    targets = {edge.target for edge in plan.edges}
    return {
        task.id
        for task in plan.tasks
        if task.type is TaskType.ROUTER and task.id not in targets and not task.is_asked_for and not task.for_each
    }


def _regions(dag: DAG, plan: WorkflowPlan) -> Mapping[str, RegionNodes]:
    if not any(task.for_each for task in plan.tasks):
        return {}
    from airflow_monai.factory.joins import region_nodes

    return region_nodes(dag, plan, _everywhere(dag))


def _goes_on(plan: WorkflowPlan) -> bool:
    """Whether a task of the workflow goes on after a failure."""
    return any(task.on_failure is OnFailure.CONTINUE for task in plan.tasks)


def _everywhere(dag: DAG) -> dict[str, Any]:
    return {"dag": dag, "owner": OWNER}


def _empty_dag(plan: WorkflowPlan, closing: bool) -> DAG:
    return DAG(
        plan.dag_id,
        dag_display_name=plan.name,
        description=plan.description or None,
        doc_md=workflow_doc(plan),
        tags=tags_of(plan, *(["unregistered"] if closing else [])),
        schedule=None if closing else PartitionedAssetTimetable(assets=_assets(plan)),
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=MAX_ACTIVE_RUNS,
        max_active_tasks=MAX_ACTIVE_TASKS,
        max_consecutive_failed_dag_runs=0,  # a workflow is never paused by itself: studies would wait unseen
        disable_bundle_versioning=False,  # a run stays on the spec it began with, whatever the site's default
    )


def _assets(plan: WorkflowPlan) -> Any:
    arrivals = [ae_uri(plan.ae_title, origin) for origin in plan.data_origins] or [ae_uri(plan.ae_title)]
    wanted: Any = Asset(workflow_uri(plan.name))
    for uri in arrivals:
        wanted = wanted | Asset(uri)
    return wanted


def tags_of(plan: WorkflowPlan, *more: str) -> list[str]:
    """The digest is among them so that every edit of the file makes a new DAG version in the UI."""
    tags = ("monai", *more, plan.ae_title, f"v{plan.version}" if plan.version else "", plan.digest[:8])
    return [tag[:TAG_LENGTH] for tag in tags if tag]


def _edges_by_source(edges: Iterable[Edge]) -> dict[str, list[Edge]]:
    found: dict[str, list[Edge]] = {}
    for edge in edges:
        found.setdefault(edge.source, []).append(edge)
    return found


def _behind(plan: WorkflowPlan) -> Callable[[str], list[str]]:
    """Gives a task and all that come after it, by their ids."""
    graph = {task: tuple(edge.target for edge in edges) for task, edges in _edges_by_source(plan.edges).items()}
    return cache(lambda task: sorted(reachable(graph, task)))


def _make_task(
    dag: DAG,
    plan: WorkflowPlan,
    task: TaskPlan,
    leaving: Iterable[Edge],
    kind: TaskKind,
    inventory: Callable[[], Inventory | None],
    behind: Callable[[str], list[str]],
    region: RegionNodes | None,
) -> BaseOperator:
    gates = kind.has_gates or region is not None
    edges = [] if gates else [_skippable(edge, behind(edge.target)) for edge in leaving if edge.conditions]
    common = _common(dag, plan, task)
    return kind.make(TaskRequest(plan, task, edges, {**common, **region.placing()} if region else common, inventory))


def _skippable(edge: Edge, behind: list[str]) -> dict[str, Any]:
    return {"node": edge.node_id, "conditions": list(edge.conditions), "behind": behind}


def retry_delay(task: TaskPlan) -> timedelta:
    return RETRY_DELAY if task.retry_delay_seconds is None else timedelta(seconds=task.retry_delay_seconds)


def _common(dag: DAG, plan: WorkflowPlan, task: TaskPlan) -> dict[str, Any]:
    common: dict[str, Any] = {"task_id": task.id, "dag": dag, "owner": OWNER, **_priority(plan, task)}
    if task.description:
        common["doc_md"] = task.description
    if task.is_join and task.for_each is None and task.on_failure is OnFailure.STOP:
        common["trigger_rule"] = JOIN_RULE
    if task.retries:
        common |= {
            "retries": task.retries,
            "retry_delay": retry_delay(task),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": MAX_RETRY_DELAY,
        }
    else:
        common["retries"] = 0  # not the site's default: the spec decides
    return common


def _priority(plan: WorkflowPlan, task: TaskPlan) -> dict[str, Any]:
    """The task's weight for the scheduler; where there is a schedule, one that knows the runs of its batches, and for
    a registered MAP one that knows the priorities of its jobs."""
    rule = "absolute"
    if plan.schedule:
        rule = strategy_name(plan.schedule.priority.value)
    elif plan.source.endswith(MAP_SUFFIX):
        rule = strategy_name("batch")
    return {"priority_weight": WEIGHTS[task.priority.value], "weight_rule": rule}


def _edge_node(
    dag: DAG, plan: WorkflowPlan, edge: Edge, behind: list[str] | None, region: RegionNodes | None, *, rule: str
) -> BaseOperator:
    """The node of an edge: a gate where ``behind`` tells what lies behind it, else one that its source skips."""
    common: dict[str, Any] = {
        "task_id": edge.node_id,
        "dag": dag,
        "owner": OWNER,
        "doc_md": edge_doc(edge),
        "trigger_rule": rule,
    }
    if region:
        common |= region.placing()
    if behind is None:
        return EdgeNode(retries=0, **common)
    return GateOperator(
        conditions=edge.conditions,
        behind=behind,
        workflow_name=plan.name,
        workflow_description=plan.description,
        workflow_params=params_of(plan),
        for_each=ForEach.SERIES.value if region else None,
        **common,
    )
