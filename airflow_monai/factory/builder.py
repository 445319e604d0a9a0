"""Plan to DAG. Knows Airflow and nothing of YAML.

One spec task is one Airflow task. Every conditional edge, and every edge into a join, is a node of its own that costs
no process: an :class:`EdgeNode` that the ending worker task skips, or after a light task a :class:`GateOperator` in the
triggerer. A join's predecessors are only such nodes, so that it runs when all that were taken ended well and one was.
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
from airflow_monai.factory.uris import ae_uri, workflow_uri
from airflow_monai.operators.gate import EdgeNode, GateOperator
from airflow_monai.specs.graph import reachable
from airflow_monai.specs.plan import Edge, TaskPlan, TaskType, WorkflowPlan

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_monai.gpu.inventory import Inventory

OWNER = "monai"
MAX_ACTIVE_RUNS = 64
MAX_ACTIVE_TASKS = 64
RETRY_DELAY = timedelta(seconds=30)
MAX_RETRY_DELAY = timedelta(minutes=10)
JOIN_RULE = "none_failed_min_one_success"
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
) -> DAG:
    """The DAG of a workflow.

    :param kinds: how each task type is made; a test may give its own.
    :param inventory: gives the site's cards; asked only when a task wants one.
    :raises MonaiError: when a task asks for what the site can never give.
    """
    dag = _empty_dag(plan)
    leaving = _edges_by_source(plan.edges)
    behind = _behind(plan)
    inventory = cache(inventory)
    operators = {
        task.id: _make_task(dag, plan, task, leaving.get(task.id, ()), kinds[task.type], inventory, behind)
        for task in plan.tasks
    }
    light = {task.id for task in plan.tasks if kinds[task.type].light}
    for edge in plan.edges:
        source, target = operators[edge.source], operators[edge.target]
        if edge.node_id is None:
            _connect(source, target)
        else:
            gate = edge.source in light and bool(edge.conditions)
            node = _edge_node(dag, plan, edge, behind(edge.target) if gate else None)
            _connect(source, node)
            _connect(node, target)
    return dag


def _connect(source: BaseOperator, target: BaseOperator) -> None:
    """What ``source >> target`` comes to, without its check that both are of one DAG: a fifth of a build's time."""
    source.downstream_task_ids.add(target.task_id)
    target.upstream_task_ids.add(source.task_id)


def _empty_dag(plan: WorkflowPlan) -> DAG:
    return DAG(
        plan.dag_id,
        dag_display_name=plan.name,
        description=plan.description or None,
        doc_md=workflow_doc(plan),
        tags=_tags(plan),
        schedule=PartitionedAssetTimetable(assets=_assets(plan)),
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


def _tags(plan: WorkflowPlan) -> list[str]:
    """The digest is among them so that every edit of the file makes a new DAG version in the UI."""
    tags = ("monai", plan.ae_title, f"v{plan.version}" if plan.version else "", plan.digest[:8])
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
) -> BaseOperator:
    edges = [] if kind.light else [_skippable(edge, behind(edge.target)) for edge in leaving if edge.conditions]
    return kind.make(TaskRequest(plan, task, edges, _common(dag, task), inventory))


def _skippable(edge: Edge, behind: list[str]) -> dict[str, Any]:
    return {"node": edge.node_id, "conditions": list(edge.conditions), "behind": behind}


def retry_delay(task: TaskPlan) -> timedelta:
    return RETRY_DELAY if task.retry_delay_seconds is None else timedelta(seconds=task.retry_delay_seconds)


def _common(dag: DAG, task: TaskPlan) -> dict[str, Any]:
    common: dict[str, Any] = {"task_id": task.id, "dag": dag, "owner": OWNER}
    if task.description:
        common["doc_md"] = task.description
    if task.is_join:
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


def _edge_node(dag: DAG, plan: WorkflowPlan, edge: Edge, behind: list[str] | None) -> BaseOperator:
    """The node of an edge: a gate where ``behind`` tells what lies behind it, else one that its source skips."""
    common: dict[str, Any] = {"task_id": edge.node_id, "dag": dag, "owner": OWNER, "doc_md": edge_doc(edge)}
    if behind is None:
        return EdgeNode(retries=0, **common)
    return GateOperator(
        conditions=edge.conditions,
        behind=behind,
        workflow_name=plan.name,
        workflow_description=plan.description,
        workflow_params=params_of(plan),
        **common,
    )
