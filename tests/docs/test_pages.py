"""The pages of docs/ say what the code and the example files say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_monai.specs import check_file, plan_of
from airflow_monai.specs.folder import spec_paths
from airflow_monai.specs.plan import TaskType
from airflow_monai.specs.schema.workflow import workflow_schema

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
EXAMPLES = REPOSITORY / "examples" / "workflows"


def test_tables_and_examples_of_the_pages_are_those_of_the_code():
    done = subprocess.run([sys.executable, str(DOCS / "update.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", spec_paths(EXAMPLES), ids=lambda path: path.relative_to(EXAMPLES).as_posix())
def test_an_example_loads_without_a_warning_and_becomes_a_dag(path: Path):
    from airflow_monai.factory.builder import build_dag

    spec, problems = check_file(path)
    assert problems == []
    assert spec is not None
    assert build_dag(plan_of(spec), inventory=lambda: None).task_dict


def test_every_example_is_on_a_page():
    pages = "".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    missing = [
        path.name for path in spec_paths(EXAMPLES) if f"file: {path.relative_to(REPOSITORY).as_posix()}" not in pages
    ]
    assert missing == []


def test_the_authors_page_has_every_field_and_every_task_type():
    page = (DOCS / "workflows.md").read_text("utf-8")
    schema = workflow_schema()
    for model, described in {"WorkflowSpec": schema, **schema["$defs"]}.items():
        if "properties" in described and not model.startswith("_"):
            assert f"<!-- fields: {model} -->" in page, model
    for kind in TaskType:
        assert re.search(rf"^### {kind.value}$", page, re.MULTILINE), kind
        used = [path for path in spec_paths(EXAMPLES) if re.search(rf"type\W+{kind.value}\b", path.read_text("utf-8"))]
        assert used, f"no example has a task of type {kind.value}"


def test_links_within_the_pages_lead_somewhere():
    for page in DOCS.glob("*.md"):
        text = page.read_text("utf-8")
        anchors = {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        for target in re.findall(r"\]\(([^)]+)\)", text):
            name, _, anchor = target.partition("#")
            assert not name or (page.parent / name).exists(), target
            assert name or anchor in anchors, target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
