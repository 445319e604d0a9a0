"""Model to plan."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_monai.specs.model import ParamSpec, ResourcesSpec, ScheduleSpec, TaskSpec, WorkflowSpec
from airflow_monai.specs.plan import (
    BATCH_SUFFIX,
    Edge,
    InputArtifact,
    OutputArtifact,
    Param,
    Priority,
    Resources,
    Schedule,
    Selection,
    TaskPlan,
    TaskType,
    WorkflowPlan,
)
from airflow_monai.specs.regions import only_ways
from airflow_monai.specs.reviews import guards, with_acceptance
from airflow_monai.specs.templates import (
    TemplateError,
    canonical_templates,
    canonical_value,
    executions_of,
    leaves,
    parse_artifact,
    result_keys,
)

DEFAULT_RETRIES = 2
NEVER_RETRIED = frozenset({TaskType.ROUTER})
DEFAULT_TIMEOUT_MINUTES = 60.0
REVIEW_TIMEOUT_MINUTES = 5760.0
"""Four days, as published."""
DOCKER_TIMEOUT_MINUTES = 5.0
"""As published."""
_LEGAL_DAG_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")


def plan_of(spec: WorkflowSpec) -> WorkflowPlan:
    """The plan of a workflow that has passed the checks."""
    ids = {task.id.lower(): task.id for task in spec.tasks}
    mapped = frozenset(task.id for task in spec.tasks if task.for_each)
    edges = tuple(_edges(spec, ids))
    previous: dict[str, tuple[str, ...]] = {task.id: () for task in spec.tasks}
    for edge in edges:
        previous[edge.target] += (edge.source,)
    keys = result_keys(_references(_judged(spec), ids))
    asked_for = {task for task, _, _ in _references(_texts(spec), ids)}
    guarded = _Guards(guards(dict(_shown(spec, ids)), edges), only_ways(edges, mapped))
    gateway = spec.informatics_gateway
    return WorkflowPlan(
        name=spec.name,
        dag_id=dag_id_of(spec.name),
        version=spec.version,
        description=spec.description,
        digest=spec.digest,
        source=spec.source,
        ae_title=gateway.ae_title,
        data_origins=tuple(gateway.data_origins),
        export_destinations=tuple(gateway.export_destinations),
        quiet_seconds=gateway.quiet_seconds,
        grouping=gateway.grouping,
        late_images=gateway.late_images,
        predicate=_conditions(spec.predicate, ids),
        priority=spec.priority or Priority.ROUTINE,
        params=tuple(_param(name, param) for name, param in spec.params.items()),
        schedule=_schedule(spec.schedule, ids) if spec.schedule else None,
        tasks=tuple(
            _task(
                task,
                spec,
                ids,
                guarded,
                result_keys=tuple(sorted(keys.get(task.id, ()))),
                previous=previous[task.id],
                is_join=is_join(task.id, previous[task.id], mapped),
                is_asked_for=task.id in asked_for,
            )
            for task in spec.tasks
        ),
        edges=edges,
    )


def is_join(task: str, previous: Iterable[str], mapped: Container[str]) -> bool:
    """Whether a task has more than one predecessor, or one that runs for each series while it does not."""
    sources = list(previous)
    return len(sources) > 1 or (task not in mapped and any(source in mapped for source in sources))


def dag_id_of(name: str) -> str:
    """The workflow's name where it may be a DAG id, else what is left of it and a part of its hash.

    One that ends as the DAGs of batches do may not: it could be that of another workflow's.
    """
    if _LEGAL_DAG_ID.fullmatch(name) and not name.lower().endswith(BATCH_SUFFIX):
        return name
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:150]
    return f"{slug or 'workflow'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def edge_node_id(source: str, target: str) -> str:
    """Airflow task id of the node of a way; task ids of a spec hold no dots."""
    return f"{source}.to.{target}"


def _edges(spec: WorkflowSpec, ids: Mapping[str, str]) -> Iterator[Edge]:
    count: dict[str, int] = {}
    for task in spec.tasks:
        for target in task.task_destinations:
            count[target.name] = count.get(target.name, 0) + 1
    mapped = {task.id for task in spec.tasks if task.for_each}
    for task in spec.tasks:
        for target in task.task_destinations:
            conditions = _conditions(target.conditions, ids)
            if task.type == TaskType.CLINICAL_REVIEW.value:
                conditions = with_acceptance(task.id, conditions)
            own_node = conditions or count[target.name] > 1 or (task.for_each and target.name not in mapped)
            yield Edge(task.id, target.name, conditions, edge_node_id(task.id, target.name) if own_node else None)


def _conditions(texts: list[str], ids: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(canonical_templates(text.strip(), ids) for text in texts if text.strip())


def _references(texts: Iterable[str], ids: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    return executions_of(canonical_templates(text, ids) for text in texts)


def _judged(spec: WorkflowSpec) -> Iterator[str]:
    """The conditions of a workflow. What they ask of a result is shown in Airflow; what an argument asks is not, since
    an argument may well carry a patient's value from one task to the next."""
    yield from spec.predicate
    for task in spec.tasks:
        for target in task.task_destinations:
            yield from target.conditions


def _texts(spec: WorkflowSpec) -> Iterator[str]:
    """Every text of a workflow that may hold templates."""
    yield from _judged(spec)
    for task in spec.tasks:
        yield from leaves(task.args)
        yield from (artifact.value for artifact in task.artifacts.input)
        yield from (artifact.value for artifact in task.artifacts.output if artifact.value)


def _filled(value: Any, ids: Mapping[str, str]) -> Any:
    """Arguments with the ids in their templates spelled as the tasks are."""
    if isinstance(value, str):
        return canonical_templates(value, ids)
    if isinstance(value, dict):
        return {key: _filled(item, ids) for key, item in value.items()}
    return [_filled(item, ids) for item in value] if isinstance(value, list) else value


def _param(name: str, spec: ParamSpec) -> Param:
    return Param(
        name, spec.type, spec.default, spec.title, spec.description, tuple(spec.choices), spec.minimum, spec.maximum
    )


def _schedule(spec: ScheduleSpec, ids: Mapping[str, str]) -> Schedule:
    select = spec.select
    return Schedule(
        cron=spec.cron,
        timezone=spec.timezone,
        select=Selection(
            ae_titles=tuple(select.ae_titles),
            data_origins=tuple(select.data_origins),
            received_within_seconds=select.received_within,
            received_after=select.received_after,
            received_before=select.received_before,
            conditions=_conditions(select.conditions, ids),
            study_instance_uids=tuple(select.study_instance_uids),
            include_processed=select.include_processed,
        ),
        max_active=spec.max_active,
        limit=spec.limit,
        priority=spec.priority or Priority.BATCH,
    )


def _timeout_minutes(task: TaskSpec, kind: TaskType) -> float:
    if task.timeout_minutes >= 0:
        return task.timeout_minutes
    if kind is TaskType.DOCKER:
        return float(task.args.get("task_timeout_minutes", DOCKER_TIMEOUT_MINUTES))
    return REVIEW_TIMEOUT_MINUTES if kind is TaskType.CLINICAL_REVIEW else DEFAULT_TIMEOUT_MINUTES


def _retries(task: TaskSpec, kind: TaskType) -> int:
    if task.retries is not None:
        return task.retries
    return 0 if kind in NEVER_RETRIED else DEFAULT_RETRIES


def _shown(spec: WorkflowSpec, ids: Mapping[str, str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Each review and the tasks whose results it shows."""
    for task in spec.tasks:
        if task.type == TaskType.CLINICAL_REVIEW.value:
            args = {name.lower(): value for name, value in task.args.items()}
            reviewed = str(args.get("reviewed_task_id", "")).strip().lower()
            sources = (_source(item.value, ids) for item in task.artifacts.input)
            yield task.id, frozenset({ids.get(reviewed, reviewed), *sources})


@dataclass(frozen=True, slots=True)
class _Guards:
    """What of an earlier task's results a task may not see.

    :param reviews: (task, source) -> reviews that must have accepted them.
    :param ways: (source, task) -> conditions that must hold for the series that made them.
    """

    reviews: Callable[[str, str], tuple[str, ...]]
    ways: Mapping[tuple[str, str], tuple[str, ...]]


def _source(value: str, ids: Mapping[str, str]) -> str:
    """The task that made what an artifact's value points at; empty for the received images."""
    try:
        task = parse_artifact(value).task or ""
    except TemplateError:
        return ""
    return ids.get(task.lower(), task)


def _task(
    task: TaskSpec,
    spec: WorkflowSpec,
    ids: Mapping[str, str],
    guarded: _Guards,
    **of_the_graph: Any,
) -> TaskPlan:
    kind = TaskType(task.type)
    return TaskPlan(
        id=task.id,
        type=kind,
        description=task.description,
        args=_filled(task.args, ids),
        inputs=tuple(
            InputArtifact(
                item.name,
                canonical_value(item.value, ids),
                item.mandatory,
                guarded.reviews(task.id, source) if (source := _source(item.value, ids)) else (),
                guarded.ways.get((source, task.id), ()),
            )
            for item in task.artifacts.input
        ),
        outputs=tuple(
            OutputArtifact(item.name, item.type, item.value and canonical_value(item.value, ids), item.mandatory)
            for item in task.artifacts.output
        ),
        export_destinations=tuple(sink.name for sink in task.export_destinations),
        retries=_retries(task, kind),
        timeout_minutes=_timeout_minutes(task, kind),
        retry_delay_seconds=task.retry_delay,
        retry_policy={kind.strip().lower(): answer.strip().lower() for kind, answer in task.retry_policy.items()},
        resources=resources_of(task.resources),
        for_each=task.for_each,
        on_failure=task.on_failure,
        priority=task.priority or spec.priority or Priority.ROUTINE,
        **of_the_graph,
    )


def resources_of(spec: ResourcesSpec | None) -> Resources | None:
    """The resources of a task as its plan has them."""
    if spec is None:
        return None
    return Resources(spec.cpu, spec.memory, spec.shared_memory, spec.gpu, spec.gpu_memory)
