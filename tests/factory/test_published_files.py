"""Published workflow files become DAGs as they are, and so does the same workflow written as YAML."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from airflow.serialization.serialized_objects import DagSerialization

from airflow_monai.factory.builder import build_dag
from airflow_monai.specs import load_text, plan_of
from airflow_monai.specs.folder import spec_paths
from airflow_monai.specs.plan import TaskType, WorkflowPlan
from tests.specs.fixtures import spec_files
from tests.specs.test_fixtures import PUBLISHED

FILES = [*spec_paths(PUBLISHED), *(path for path in spec_files("valid") if path.suffix == ".json")]


def plan(text: str, source: str) -> WorkflowPlan:
    """The plan of a text, without what tells files apart."""
    return replace(plan_of(load_text(text, source)), source="", digest="0" * 64)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_json_and_yaml_of_one_workflow_make_one_dag(path: Path):
    text = path.read_text(encoding="utf-8")
    as_json = plan(text, "x.json")
    as_yaml = plan(yaml.safe_dump(json.loads(text), allow_unicode=True), "x.yaml")
    assert as_json == as_yaml
    dags = [build_dag(made, inventory=lambda: None) for made in (as_json, as_yaml)]
    assert set(dags[0].task_ids) >= {task.id for task in as_json.tasks}
    assert DagSerialization.to_dict(dags[0]) == DagSerialization.to_dict(dags[1])


def test_the_files_of_this_project_hold_every_published_type():
    own = [path for path in FILES if path.parent.name == "valid"]
    types = {task.type for path in own for task in plan(path.read_text(encoding="utf-8"), "x.json").tasks}
    ours = {TaskType.MAP, TaskType.HTTP, TaskType.HTTP_ASYNC}
    assert types >= set(TaskType) - ours
