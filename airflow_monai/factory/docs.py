"""What the UI shows of a workflow beside its graph: version, digest, and a table of the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_monai.specs.plan import Edge, Schedule, TaskPlan, TaskType, WorkflowPlan


def workflow_doc(plan: WorkflowPlan) -> str:
    """Markdown for the DAG's page."""
    origins = f" from {', '.join(plan.data_origins)}" if plan.data_origins else ""
    facts = (
        f"Version **{_cell(plan.version)}** of `{_cell(plan.name)}`, made from `{_cell(plan.source)}` "
        f"(digest `{plan.digest[:12]}`). Runs for studies sent to AE title `{_cell(plan.ae_title)}`{_cell(origins)}."
    )
    table = ["| task | type | what | next |", "|---|---|---|---|", *_rows(plan)]
    return "\n\n".join(part for part in (facts, plan.description, "\n".join(table)) if part)


def batch_doc(plan: WorkflowPlan, schedule: Schedule) -> str:
    """Markdown for the page of a workflow's batch."""
    select = schedule.select
    titles = ", ".join(f"`{_cell(title)}`" for title in select.ae_titles or (plan.ae_title,))
    which = "all that fit" if select.include_processed else f"those that version {plan.version} has not processed"
    limit = f", at most {schedule.limit} in one batch, the oldest first" if schedule.limit else ""
    return (
        f"Starts `{_cell(plan.name)}` on payloads in the store that were sent to {titles}: {which}{limit}. "
        f"At {_cell(schedule.cron)} ({schedule.timezone}), or when it is triggered by hand, where the form can narrow "
        f"the selection. {schedule.max_active} runs at once, behind the live studies."
    )


def edge_doc(edge: Edge) -> str:
    """Markdown for an edge's own node."""
    if not edge.conditions:
        return f"The way from `{edge.source}` to `{edge.target}`."
    conditions = "\n".join(f"- `{condition}`" for condition in edge.conditions)
    return f"The way from `{edge.source}` to `{edge.target}`, taken when\n\n{conditions}"


def _rows(plan: WorkflowPlan) -> Iterator[str]:
    following: dict[str, list[Edge]] = {}
    for edge in plan.edges:
        following.setdefault(edge.source, []).append(edge)
    for task in plan.tasks:
        kind = f"{task.type.value}, for each {task.for_each.value}" if task.for_each else task.type.value
        cells = (task.id, kind, _what(task), _next(following.get(task.id, ())))
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _what(task: TaskPlan) -> str:
    if task.type is TaskType.MAP:
        return str(task.args.get("map", "")) or task.description
    if task.type is TaskType.DOCKER:
        return str(task.args.get("container_image", "")) or task.description
    if task.type is TaskType.EXPORT:
        return ", ".join(task.export_destinations)
    return task.description


def _next(edges: Iterable[Edge]) -> str:
    return ", ".join(edge.target + _when(edge) for edge in edges)


def _when(edge: Edge) -> str:
    return f" if {' and '.join(edge.conditions)}" if edge.conditions else ""


def _cell(text: str) -> str:
    """Text that stays in its table cell and its code span."""
    return text.replace("\n", " ").replace("|", "\\|").replace("`", "'")
