"""Paths of conditions that can never have a value."""

from __future__ import annotations

import json

import pytest

from airflow_monai.specs import Problem, check_text
from airflow_monai.specs.known_paths import better_path


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("context.dicom.serie.any('0008','0060')", "context.dicom.series.any('0008','0060')"),
        ("context.dicom.series.any('08','60')", "context.dicom.series.any('0008','0060')"),
        ("context.dicom.series.al('0008','103E')", "context.dicom.series.all('0008','103E')"),
        ("context.dicom.series.any(0008,0060)", "context.dicom.series.any('0008','0060')"),
        ("context.dicom.tags(0010,0040)", "context.dicom.series.all('0010','0040')"),
        ("context.dicom.tags[PatientSex]", "context.dicom.series.all('PatientSex')"),
        ("context.dicom.modality", "context.dicom.series.any('Modality')"),
        ("context.dicom.series.all(Modalty)", "context.dicom.series.all('Modality')"),
        ("context.dicom.series.any('BodyPart','x')", "context.dicom.series.any('BodyPartExamined')"),
        ("context.dicom.series.any(' - ')", "context.dicom.series.any('gggg','eeee')"),
        ("context.executions.work.results.volume_ml", "context.executions.work.result.volume_ml"),
        ("context.executions.work.result", "context.executions.work.result.<key>"),
        ("context.executions.work.volume_ml", "context.executions.work.result.volume_ml"),
        ("context.execution.work.result.volume_ml", "context.executions.work.result.volume_ml"),
        ("contxt.executions.work.state", "context.executions.work.status"),
        ("context.input.patient_detail.sex", "context.input.patient_details.sex"),
        ("context.input.patient_details.Sex", "context.input.patient_details.sex"),
        ("context.workflow.nme", "context.workflow.name"),
    ],
)
def test_a_mistyped_path_is_answered_by_the_known_one(path: str, meant: str):
    assert better_path(path) == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    "path", ["", ".", "context", "study", "a.b.c", "context..", "context.executions.", "x" * 9_999]
)
def test_a_path_like_no_known_one_is_answered_by_all_of_them(path: str):
    assert better_path(path).startswith("known: context.executions.<task>.result.<key>")


def problems_with(condition: str, arguments: str = "") -> list[Problem]:
    """Problems of a workflow that takes its one way under the condition."""
    gateway = {"ae_title": "AE"}
    work = {"id": "work", "type": "map", "args": {"map": "noop:1", "env_NOTE": arguments}}
    work["artifacts"] = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}
    work["task_destinations"] = [{"name": "next", "conditions": [condition]}]
    tasks = [work, {"id": "next", "type": "router"}]
    data = {"name": "x", "version": "1", "informatics_gateway": gateway, "tasks": tasks}
    return check_text(json.dumps(data), "x.json")[1]


@pytest.mark.parametrize(
    "path",
    [
        "context.dicom.serie.any('0008','0060')",
        "context.dicom.series.any('08','60')",
        "context.executions.work.results.volume_ml",
        "context.executions.work.result",
        "context.input.dicom",
        "nonsense",
    ],
)
def test_a_mistyped_path_in_a_condition_is_an_error(path: str):
    (problem,) = problems_with(f"{{{{ {path} }}}} == 'CT'")
    assert (problem.code, problem.is_error) == ("unknown-path", True)


@pytest.mark.parametrize(
    "path",
    [
        "context.dicom.tags",
        "context.dicom.series",
        "context.executions.work.input_dir",
        "context.executions.work.task.id",
    ],
)
def test_a_path_that_published_files_may_hold_is_a_warning(path: str):
    (problem,) = problems_with(f"{{{{ {path} }}}} == NULL")
    assert (problem.code, problem.is_error) == ("unknown-path", False)
    assert "always NULL" in problem.message


def test_a_path_in_an_argument_is_a_warning():
    (problem,) = problems_with("'a' == 'a'", "{{ some.path }}")
    assert (problem.code, problem.is_error) == ("unknown-path", False)
