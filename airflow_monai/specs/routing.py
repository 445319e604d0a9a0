"""Which workflows want a study, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_monai.errors import ConditionError
from airflow_monai.specs.conditions.ast import templates
from airflow_monai.specs.conditions.parser import evaluate, parse
from airflow_monai.specs.conditions.values import SeriesValues, operand
from airflow_monai.specs.context import ExecutionContext
from airflow_monai.specs.folder import FolderSpecs, SpecFolder, load_folder
from airflow_monai.specs.plan import LateImages, WorkflowPlan
from airflow_monai.types import Payload, SeriesTags

__all__ = ["Decision", "FolderSpecs", "Judged", "SpecFolder", "decide", "load_folder", "seen_values"]

TagsOrLoader = SeriesTags | Callable[[], SeriesTags]
_LATE_REASONS = {
    LateImages.IGNORE: "the images came late, and it says late_images: ignore; they are kept and start nothing",
    LateImages.RERUN: "the images came late, and it says late_images: rerun; it gets a payload of these and all before",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One condition as it was judged.

    :param holds: None when it cannot be evaluated, and ``error`` says why.
    :param values: path -> the value it has in this study, as text: for the eyes of whoever has the study.
    """

    condition: str
    holds: bool | None
    error: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a workflow wants a payload.

    :param reason: names AE titles and conditions, never a value of the study.
    :param predicate: all conditions with their values, where these were asked for.
    :param late: what the workflow does with late images, where that is why it does not want them by themselves.
    """

    workflow_name: str
    dag_id: str
    wanted: bool
    reason: str
    predicate: tuple[Judged, ...] = ()
    late: LateImages | None = None


def decide(
    payload: Payload, series_tags: TagsOrLoader, workflows: Iterable[WorkflowPlan], *, with_values: bool = False
) -> list[Decision]:
    """One decision for each workflow, in their order.

    :param series_tags: attributes by series, or a callable that loads them; it is called at most once, and only when a
        predicate asks for one.
    :param with_values: also judge the conditions that decide nothing, and tell the values that they saw.
    """
    load = _once(series_tags)
    return [_decide(payload, load, plan, with_values) for plan in workflows]


def seen_values(condition: str, context: ExecutionContext) -> dict[str, str]:
    """The values of a condition's paths, as text.

    :raises ConditionError: when the text is not a condition.
    """
    return {template.path: _shown(context(template.path)) for template in templates(parse(condition))}


def _once(series_tags: TagsOrLoader) -> Callable[[], SeriesTags]:
    loaded: list[SeriesTags] = [series_tags] if isinstance(series_tags, Mapping) else []

    def load() -> SeriesTags:
        if not loaded and not isinstance(series_tags, Mapping):
            loaded.append(series_tags())
        return loaded[0]

    return load


def _decide(payload: Payload, tags: Callable[[], SeriesTags], plan: WorkflowPlan, with_values: bool) -> Decision:
    late = _late(payload, plan)
    if late:
        return Decision(plan.name, plan.dag_id, False, _LATE_REASONS[late], late=late)
    refusal = _not_for_it(payload, plan)
    judged: list[Judged] = []
    if refusal is None:
        for item in _predicate(payload, tags, plan, with_values):
            judged.append(item)
            refusal = refusal or _refusal(item)
            if refusal and not with_values:
                break
    reason = refusal or f"sent to AE title {plan.ae_title!r}"
    return Decision(plan.name, plan.dag_id, refusal is None, reason, tuple(judged) if with_values else ())


def _late(payload: Payload, plan: WorkflowPlan) -> LateImages | None:
    """What the workflow does with images that came late, where it is anything but to take them as a new payload."""
    if not payload.is_late or payload.called_aet.strip(" ") != plan.ae_title:
        return None
    return None if plan.late_images is LateImages.NEW_PAYLOAD else plan.late_images


def _not_for_it(payload: Payload, plan: WorkflowPlan) -> str | None:
    """Why the payload's AE titles are not the workflow's, or None."""
    if payload.called_aet.strip(" ") != plan.ae_title:
        return f"it listens to AE title {plan.ae_title!r}, the study was sent to {payload.called_aet!r}"
    callers = {caller.strip(" ") for caller in payload.calling_aets}
    if plan.data_origins and not callers.intersection(plan.data_origins):
        return f"it takes studies of {', '.join(plan.data_origins)}, not of {', '.join(sorted(callers)) or 'nobody'}"
    return None


def _refusal(item: Judged) -> str | None:
    if item.holds is None:
        return f"its predicate {item.condition!r} cannot be evaluated: {item.error}"
    return None if item.holds else f"its predicate {item.condition!r} is false"


def _predicate(
    payload: Payload, tags: Callable[[], SeriesTags], plan: WorkflowPlan, with_values: bool
) -> Iterator[Judged]:
    context = ExecutionContext(
        payload=payload,
        series_tags=tags,
        workflow_name=plan.name,
        workflow_description=plan.description,
        params={param.name: param.default for param in plan.params},
    )
    for condition in plan.predicate:
        holds, error = None, ""
        try:
            holds = evaluate(condition, context)
        except ConditionError as problem:
            error = str(problem)
        yield Judged(condition, holds, error, seen_values(condition, context) if with_values else {})


def _shown(answer: Any) -> str:
    if isinstance(answer, SeriesValues):
        return " | ".join(dict.fromkeys(_shown(value) for value in answer.values)) or "NULL"
    try:
        value = operand(answer)
    except (TypeError, ValueError, ArithmeticError):
        return "a value that cannot be compared"
    if isinstance(value, tuple):
        return f"[{', '.join('NULL' if item is None else item for item in value)}]"
    return "NULL" if value is None else repr(value)
