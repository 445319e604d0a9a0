"""The tables of docs/workflow-manager.md say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_monai.api.app import create_app
from airflow_monai.api.workflow_manager import PREFIX
from airflow_monai.api.workflow_manager.statuses import OPERATORS, REASONS, TASK_STATES
from airflow_monai.specs.plan import TaskType
from airflow_monai.types import FailureKind

TEXT = (Path(__file__).parents[2] / "docs" / "workflow-manager.md").read_text()


def test_states_and_reasons_are_those_of_the_tables() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|$", TEXT, re.MULTILINE))
    assert {state: status.value for state, status in TASK_STATES.items()}.items() <= rows.items()
    assert {kind.value: reason.value for kind, reason in REASONS.items()}.items() <= rows.items()
    assert set(REASONS) == set(FailureKind)


def test_every_route_of_instances_tasks_and_payloads_is_on_the_page() -> None:
    paths = {route.path.removeprefix(PREFIX) for route in create_app().routes if getattr(route, "include_in_schema", 0)}
    ours = {
        path for path in paths if path.startswith(("/workflowinstances", "/tasks", "/payload", "/artifacts", "/health"))
    }
    told = re.sub(r"\{[^}]*\}", "{}", TEXT)
    assert len(ours) >= 12
    assert [path for path in sorted(ours) if re.sub(r"\{[^}]*\}", "{}", path) not in told] == []


def test_every_type_of_task_has_an_operator() -> None:
    """As Airflow's table names their classes."""
    import importlib
    import pkgutil

    from airflow_monai import operators

    found = {}
    for module in pkgutil.iter_modules(operators.__path__):
        for name, value in vars(importlib.import_module(f"airflow_monai.operators.{module.name}")).items():
            if isinstance(value, type) and getattr(value, "spec_type", ""):
                found[name] = value.spec_type
    found["RouterOperator"] = "router"
    assert {name: kind.value for name, kind in OPERATORS.items()} == found
    assert set(OPERATORS.values()) == set(TaskType)
