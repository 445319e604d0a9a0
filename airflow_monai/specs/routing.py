"""Which workflows want a study, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions import evaluate
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.specs.folder import FolderSpecs, SpecFolder, load_folder
from airflow_monai.specs.plan import WorkflowPlan
from airflow_monai.types import Payload, SeriesTags

__all__ = ["Decision", "FolderSpecs", "SpecFolder", "decide", "load_folder"]

TagsOrLoader = SeriesTags | Callable[[], SeriesTags]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a workflow wants a payload.

    :param reason: names AE titles and conditions, never a value of the study.
    """

    workflow_name: str
    dag_id: str
    wanted: bool
    reason: str


def decide(payload: Payload, series_tags: TagsOrLoader, workflows: Iterable[WorkflowPlan]) -> list[Decision]:
    """One decision for each workflow, in their order.

    :param series_tags: attributes by series, or a callable that loads them; it is called at most once, and only when a
        predicate asks for one.
    """
    load = _once(series_tags)
    return [_decide(payload, load, plan) for plan in workflows]


def _once(series_tags: TagsOrLoader) -> Callable[[], SeriesTags]:
    loaded: list[SeriesTags] = [series_tags] if isinstance(series_tags, Mapping) else []

    def load() -> SeriesTags:
        if not loaded and not isinstance(series_tags, Mapping):
            loaded.append(series_tags())
        return loaded[0]

    return load


def _decide(payload: Payload, tags: Callable[[], SeriesTags], plan: WorkflowPlan) -> Decision:
    refusal = _refusal(payload, tags, plan)
    return Decision(plan.name, plan.dag_id, refusal is None, refusal or f"sent to AE title {plan.ae_title!r}")


def _refusal(payload: Payload, tags: Callable[[], SeriesTags], plan: WorkflowPlan) -> str | None:
    """Why the workflow does not want the payload, or None."""
    if payload.called_aet.strip(" ") != plan.ae_title:
        return f"it listens to AE title {plan.ae_title!r}, the study was sent to {payload.called_aet!r}"
    callers = {caller.strip(" ") for caller in payload.calling_aets}
    if plan.data_origins and not callers.intersection(plan.data_origins):
        return f"it takes studies of {', '.join(plan.data_origins)}, not of {', '.join(sorted(callers)) or 'nobody'}"
    context = ExecutionContext(
        payload=payload,
        series_tags=tags,
        workflow_name=plan.name,
        workflow_description=plan.description,
    )
    for condition in plan.predicate:
        try:
            if not evaluate(condition, context):
                return f"its predicate {condition!r} is false"
        except ConditionError as error:
            return f"its predicate {condition!r} cannot be evaluated: {error}"
    return None
