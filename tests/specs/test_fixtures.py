"""Every workflow file in ``valid`` loads, every one in ``invalid`` has what is said of it in a file beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.errors import SpecError
from airflow_monai.factory.builder import build_dag
from airflow_monai.specs import Problem, check_file, load_workflow, plan_of
from airflow_monai.specs.folder import spec_paths
from tests.specs.fixtures import spec_files

REPOSITORY = Path(__file__).parents[2]
# Published workflow definitions are not part of this project; they are tried where a copy lies beside the checkout.
PUBLISHED = REPOSITORY.parent / "shared" / "samples" / "workflows"


def described(problem: Problem) -> str:
    """A problem as the ``.problems`` files write it."""
    place = f"{problem.line}:{problem.column} {problem.severity.value} {problem.code}: {problem.message}\n"
    return place + (f"    {problem.hint}\n" if problem.hint else "")


@pytest.mark.parametrize("path", spec_files("valid"), ids=lambda path: path.name)
def test_valid(path: Path):
    plan = plan_of(load_workflow(path))
    assert plan.source == path.name
    assert len(plan.digest) == 64


@pytest.mark.parametrize("path", spec_files("invalid"), ids=lambda path: path.name)
def test_invalid(path: Path):
    spec, problems = check_file(path)
    expected = path.with_suffix(path.suffix + ".problems").read_text(encoding="utf-8")
    assert (spec, "".join(map(described, problems))) == (None, expected)


def test_there_is_a_file_for_every_usual_mistake():
    files = spec_files("invalid")
    texts = {path.with_suffix(path.suffix + ".problems").read_text(encoding="utf-8") for path in files}
    assert len(files) == len(texts) >= 100


def test_the_error_names_file_line_and_hint_of_every_problem():
    path = next(path for path in spec_files("invalid") if path.name == "several-at-once.yaml")
    with pytest.raises(SpecError) as caught:
        load_workflow(path)
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    assert f"{path}:15:5: error: unknown field 'timout_minutes' [unknown-field]" in text
    assert "   15 |     timout_minutes: 30\n      |     ^\n      hint: did you mean 'timeout_minutes'?" in text
    assert f"{path}:18:16: error: task 'segment': no task 'lok'" in text


@pytest.mark.parametrize("path", spec_paths(REPOSITORY / "workflow_specs"), ids=lambda path: path.name)
def test_the_workflows_of_this_project_load_without_a_warning(path: Path):
    spec, problems = check_file(path)
    assert spec is not None
    assert problems == []


@pytest.mark.parametrize("path", spec_paths(PUBLISHED), ids=lambda path: path.name)
def test_published_workflows_load_unchanged_and_become_dags(path: Path):
    spec, problems = check_file(path)
    assert spec is not None
    assert {problem.code for problem in problems} <= {"ignored-field", "ignored-argument"}
    assert all(not problem.is_error for problem in problems)
    dag = build_dag(plan_of(spec), inventory=lambda: None)
    assert {task.id for task in spec.tasks} <= set(dag.task_ids)


def test_a_long_line_is_shown_around_its_problem():
    problem = Problem("f", 1, 501, "x", "m", excerpt="a" * 500 + "b" + "c" * 500)
    shown, caret = str(problem).split("\n")[1:3]
    assert shown[caret.index("^")] == "b"
    assert len(shown) < 200
