"""Checks of ``retry_policy``: kinds of failure, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_monai.failures import DEFAULT_POLICY, Answer, FailureKind
from airflow_monai.specs.findings import Finding, warning
from airflow_monai.specs.problems import nearest
from airflow_monai.specs.view import SpecView

KINDS = tuple(kind.value for kind in FailureKind)
ANSWERS = tuple(answer.value for answer in Answer)


def retry_policies(view: SpecView) -> Iterator[Finding]:
    """Unknown kinds and answers, kinds that are named twice, and policies without any retry."""
    for at, task in view.located():
        seen: set[str] = set()
        for written, answer in task.retry_policy.items():
            kind, place = written.strip().lower(), (*at, "retry_policy", written)
            if kind not in KINDS:
                hint = nearest(written, KINDS) or f"known: {', '.join(KINDS)}"
                message = f"task {task.id!r}: there is no kind of failure {written[:60]!r}"
                yield Finding(place, "unknown-failure-kind", message, hint)
            elif kind in seen:
                message = f"task {task.id!r}: the kind of failure {kind!r} is named twice"
                yield Finding(place, "duplicate-key", message, "remove one of them")
            elif answer.strip().lower() not in ANSWERS:
                message = f"task {task.id!r}: {answer[:60]!r} is no answer to a failure"
                default = DEFAULT_POLICY[FailureKind(kind)].value
                yield Finding(place, "unknown-choice", message, f"write retry or fail (the default is {default})")
            seen.add(kind)
        if task.retries == 0 and Answer.RETRY.value in (text.strip().lower() for text in task.retry_policy.values()):
            message = f"task {task.id!r} has retries: 0, so that its retry_policy can retry nothing"
            yield warning((*at, "retry_policy"), "without-retries", message, "remove retries, or set it to 1 or more")
