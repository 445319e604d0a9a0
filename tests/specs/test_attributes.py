"""DICOM attributes by number and by keyword, in every spelling."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_monai.specs import Problem, attributes, check_text, load_text, plan_of
from airflow_monai.specs.attributes import Attribute, attribute, canonical, keywords, nearest_keyword

MODALITY = "context.dicom.series.any('0008','0060')"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("context.dicom.series.any('Modality')", MODALITY),
        ('context.dicom.series.any( "Modality" )', MODALITY),
        ("context.dicom.series.any('0008','0060')", MODALITY),
        ("context.dicom.series.any('00080060')", MODALITY),
        ("context.dicom.series.any(\u20180008\u2019, \u20180060\u2019)", MODALITY),
        ("context.dicom.series.all('0008','103e')", "context.dicom.series.all('0008','103E')"),
        ("context.dicom.series.all('SeriesDescription')", "context.dicom.series.all('0008','103E')"),
        ("context.dicom.tags[('0010','0040')]", "context.dicom.series.all('0010','0040')"),
        ("context.dicom.tags['0010','0040']", "context.dicom.series.all('0010','0040')"),
        ("context.dicom.tags['PatientSex']", "context.dicom.series.all('0010','0040')"),
        ("context.dicom.tags.PatientSex", "context.dicom.series.all('0010','0040')"),
        ("context.dicom.study_id", "context.dicom.series.any('0020','0010')"),
    ],
)
def test_every_spelling_becomes_one(path: str, expected: str):
    assert canonical(path) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    "path",
    [
        "context.dicom.series.any(Modality)",
        "context.dicom.series.any('Modality']",
        "context.dicom.series.any('Modality'",
        "context.dicom.series.some('Modality')",
        "context.dicom.series.any('8','60')",
        "context.dicom.series.any('0008','00600')",
        "context.dicom.series.any('00080','060')",
        "context.dicom.series.any('000G','0060')",
        "context.dicom.series.any('0008','0060','0001')",
        "context.dicom.series.any('')",
        "context.dicom.series.any()",
        "context.dicom.tags",
        "context.workflow.name",
        "",
    ],
)
def test_what_names_no_attribute_stays(path: str):
    assert canonical(path) == path
    assert attribute(path) is None


def test_what_is_known_of_an_attribute():
    assert attribute("context.dicom.series.any('Modalty')") == Attribute("any", None, "Modalty")
    assert attribute("context.dicom.series.any('PixelData')") == Attribute("any", "7FE00010", "PixelData", False)
    assert attribute("context.dicom.series.any('0029','1010')").is_private
    assert attribute("context.dicom.series.any('TransferSyntaxUID')").is_header


@pytest.mark.parametrize(
    ("word", "keyword"),
    [
        ("Modalty", "Modality"),
        ("modality", "Modality"),
        ("SeriesDescripton", "SeriesDescription"),
        ("BodyPart", "BodyPartExamined"),
        ("qqqq", None),
        ("", None),
        ("x" * 5_000, None),
    ],
)
def test_the_nearest_keyword(word: str, keyword: str | None):
    assert nearest_keyword(word) == keyword


def test_the_file_of_keywords_is_that_of_the_dictionary():
    """Made anew by: ``TABLE.write_text("\\n".join(table_lines()) + "\\n")``."""
    assert attributes.TABLE.read_text(encoding="ascii").splitlines() == list(attributes.table_lines())
    assert len(keywords()) > 5_000


@given(st.text(alphabet="context.dicom.series.anyalltags()[]'\"0123456789ABCDEFMod,\u2018\u2019 ", max_size=60))
def test_any_text_after_the_beginning_is_handled(text: str):
    path = f"context.dicom.{text}"
    assert canonical(canonical(path)) == canonical(path)


def workflow(condition: str, argument: str = "") -> str:
    """A workflow that takes its one way under the condition."""
    work = {"id": "work", "type": "map", "args": {"map": "noop:1", "env_NOTE": argument}}
    work["artifacts"] = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}
    work["task_destinations"] = [{"name": "next", "conditions": [condition]}]
    tasks = [work, {"id": "next", "type": "router"}]
    return json.dumps({"name": "x", "version": "1", "informatics_gateway": {"ae_title": "AE"}, "tasks": tasks})


def problems_with(path: str) -> list[Problem]:
    return check_text(workflow(f"{{{{ {path} }}}} == 'CT'"), "x.json")[1]


def test_plans_know_attributes_by_number():
    text = workflow("{{context.dicom.series.any('Modality')}} == 'CT'", "{{ context.dicom.tags['PatientSex'] }}")
    plan = plan_of(load_text(text, "x.json"))
    assert plan.edges[0].conditions == (f"{{{{{MODALITY}}}}} == 'CT'",)
    assert plan.task("work").args["env_NOTE"] == "{{ context.dicom.series.all('0010','0040') }}"


def test_an_unknown_keyword_is_an_error_with_the_nearest_one():
    (problem,) = problems_with("context.dicom.series.any('Modalty')")
    assert (problem.code, problem.is_error, problem.hint) == ("unknown-attribute", True, "did you mean 'Modality'?")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("context.dicom.series.any('0029','1010')", "(0029,1010) is private"),
        ("context.dicom.series.any('TransferSyntaxUID')", "TransferSyntaxUID(0002,0010) belongs to the file's header"),
        ("context.dicom.series.any('PixelData')", "PixelData(7FE0,0010) holds no text and no number"),
    ],
)
def test_an_attribute_that_never_has_a_value_is_a_warning(path: str, told: str):
    (problem,) = problems_with(path)
    assert (problem.code, problem.is_error) == ("attribute-without-value", False)
    assert problem.message.startswith(told)
