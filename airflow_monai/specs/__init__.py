"""The workflow language: files, model, checks, conditions, plan.

What needs pydantic and YAML is imported when it is first asked for, so that ``airflow_monai.specs.plan`` and
``airflow_monai.specs.conditions.parser`` stay cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_monai.specs.compile import plan_of
    from airflow_monai.specs.model import WorkflowSpec
    from airflow_monai.specs.problems import Problem
    from airflow_monai.specs.reading import check_file, check_text, load_text, load_workflow

__all__ = ["Problem", "WorkflowSpec", "check_file", "check_text", "load_text", "load_workflow", "plan_of"]

_HOMES = {
    "Problem": "problems",
    "WorkflowSpec": "model",
    "check_file": "reading",
    "check_text": "reading",
    "load_text": "reading",
    "load_workflow": "reading",
    "plan_of": "compile",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
