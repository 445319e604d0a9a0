"""What ``args.map`` may be."""

from __future__ import annotations

import json

import pytest

from airflow_monai.specs import check_text


def codes(reference: str) -> list[str]:
    """Codes of the problems of a workflow that runs the application."""
    task = {"id": "seg", "type": "map", "args": {"map": reference}}
    task["artifacts"] = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}
    data = {"name": "x", "version": "1", "informatics_gateway": {"ae_title": "AE"}, "tasks": [task]}
    return [problem.code for problem in check_text(json.dumps(data), "x.json")[1]]


@pytest.mark.parametrize(
    "reference",
    ["lung-seg:1.0.0", "lung-seg", "images.example:5000/team/lung-seg:1.0", "lung@sha256:" + "0" * 64, "a..b/c.:1"],
)
def test_an_application_or_an_image(reference: str):
    assert codes(reference) == []


@pytest.mark.parametrize(
    "reference", ["../../etc:1", "..", ".", "./lung:1", "a/../b:1", "a/..:1", "a/.", "a\\..\\b", "a/..@sha256:0"]
)
def test_a_reference_that_leads_elsewhere_is_refused(reference: str):
    assert codes(reference) == ["bad-map"]
