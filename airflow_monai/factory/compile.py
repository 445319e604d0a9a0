"""Text of a workflow file to plan, with errors as Airflow's import errors show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_monai.errors import SpecError
from airflow_monai.specs.plan import WorkflowPlan

if TYPE_CHECKING:
    from airflow_monai.specs.defaults.text import Defaults
    from airflow_monai.specs.problems import Problem


def compile_plan(text: str, source: str, defaults: Sequence[Defaults] = ()) -> WorkflowPlan:
    """The plan of a workflow's text.

    :param defaults: what it takes where it does not say it, the nearest first.
    :raises SpecError: with one line for each problem: file, line, column, what is wrong, what to do.
    """
    from airflow_monai.specs.compile import plan_of
    from airflow_monai.specs.problems import errors_of
    from airflow_monai.specs.reading import check_text

    spec, problems = check_text(text, source, defaults)
    if spec is None:
        raise SpecError(told(source, errors_of(problems)), problems=tuple(problems))
    return plan_of(spec)


def told(source: str, problems: Iterable[Problem]) -> str:
    """Problems as Airflow shows them: one line each."""
    lines = [problem_line(problem) for problem in problems]
    return lines[0] if len(lines) == 1 else "\n".join((f"{source} has {len(lines)} errors:", *lines))


def problem_line(problem: Problem) -> str:
    """File, line, column, message and hint in one line."""
    hint = f" - {problem.hint}" if problem.hint else ""
    return f"{problem.file}:{problem.line}:{problem.column}: {problem.message} [{problem.code}]{hint}"
