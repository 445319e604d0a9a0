"""Arguments whose names are written in any case."""

from __future__ import annotations

import json

from airflow_monai.specs import check_text, load_text, plan_of
from airflow_monai.specs.spelling import spell_arguments

INPUT = {"input": [{"name": "study", "value": "{{ context.input.dicom }}"}]}


def workflow(args: dict, kind: str = "map") -> str:
    task = {"id": "work", "type": kind, "args": args, "artifacts": INPUT}
    return json.dumps({"name": "x", "version": "1", "informatics_gateway": {"ae_title": "AE"}, "tasks": [task]})


def test_a_plan_has_the_names_of_the_table():
    plan = plan_of(load_text(workflow({"Map": "noop:1", "env_Threshold": 0.5}, kind="MAP"), "x.json"))
    assert plan.root.args == {"map": "noop:1", "env_Threshold": "0.5"}


def test_the_same_argument_in_two_spellings_is_an_error():
    (problem,) = check_text(workflow({"map": "noop:1", "MAP": "noop:2"}), "x.json")[1]
    assert (problem.code, problem.is_error) == ("duplicate-key", True)
    assert problem.column == workflow({"map": "noop:1", "MAP": "noop:2"}).index('"MAP"') + 1


def test_a_problem_of_a_renamed_argument_has_its_place():
    text = workflow({"MAP": "no op"})
    (problem,) = check_text(text, "x.json")[1]
    assert (problem.code, problem.column) == ("bad-map", text.index('"no op"') + 1)


def test_data_of_any_shape_is_passed_over():
    for data in (None, [], {"tasks": 3}, {"tasks": [None, {"args": []}, {"type": [], "args": {"a": 1}}]}):
        assert list(spell_arguments(data, {})) == []
