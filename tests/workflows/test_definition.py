"""Definitions as requests bring them and answers show them."""

from __future__ import annotations

import json

import pytest

from airflow_monai.errors import SpecError
from airflow_monai.specs.reading import load_text
from airflow_monai.workflows.definition import as_json, covers, definition_of, merged, read_body
from tests.workflows.definitions import PUBLISHED, simple


def test_a_text_kept_of_json_means_the_same() -> None:
    odd = {**simple(), "description": "Ä \u2028 \x7f \ud83d\ude00 \\ \" ' # : {{ x }}\n\ttab"}
    for definition in (*PUBLISHED, odd):
        body = read_body(json.dumps(definition).encode(), is_json=True)
        assert body.fields == json.loads(json.dumps(definition))
        assert definition_of(body.text) == json.loads(body.text) == body.fields
        sent, kept = load_text(json.dumps(definition), "a.json"), load_text(body.text, "b.yaml")
        assert sent.model_dump() == kept.model_dump()
    assert "Ä" in as_json({"name": "Ä"})


def test_yaml_values_are_what_the_model_takes_them_for() -> None:
    text = """\
name: 2024
version: 1.10
informatics_gateway: {ae_title: 007, quiet_seconds: 30}
params: {limit: {type: number, default: 0.50}}
tasks:
- {id: 1, type: docker, timeout_minutes: 5, args: {env_A: 1.10, env_B: 2, env_C: true, env_D: "3", env_E: True}}
"""
    told = definition_of(text)
    assert (told["name"], told["version"]) == ("2024", "1.10")
    assert told["informatics_gateway"] == {"ae_title": "007", "quiet_seconds": 30}
    assert told["params"]["limit"]["default"] == 0.5
    task = told["tasks"][0]
    assert (task["id"], task["timeout_minutes"]) == ("1", 5)
    assert task["args"] == {"env_A": "1.10", "env_B": 2, "env_C": True, "env_D": "3", "env_E": "True"}


def test_attributes_are_replaced_in_any_case_and_in_their_place() -> None:
    current = {"Name": "a", "version": "1", "dataRetentionDays": 1, "tasks": [1]}
    change = {"VERSION": "2", "data_retention_days": None, "description": "x"}
    assert list(merged(current, change).items()) == [
        ("Name", "a"),
        ("version", "2"),
        ("tasks", [1]),
        ("description", "x"),
    ]
    assert not covers(change, current)
    assert covers({**change, "name": "a", "dataretentiondays": 2, "tasks": []}, current)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [(b'{\n "a": ]}', 2, 7), (b'{"a": 1}\n{"b": 2}', 2, 1), (b'{"a": 1,}', 1, 9), (b"{'a': 1}", 1, 2)],
)
def test_broken_json_is_told_with_its_place(data: bytes, line: int, column: int) -> None:
    with pytest.raises(SpecError) as caught:
        read_body(data, is_json=True)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)


def test_a_definition_may_stand_in_a_field_of_its_own() -> None:
    sent = {"Original_Workflow_Name": " ct ", "Workflow": simple()}
    body = read_body(json.dumps(sent).encode(), is_json=True)
    assert body.is_within and body.original_name == "ct" and body.fields == simple()
    mixed = read_body(json.dumps({**simple(), "workflow": simple()}).encode(), is_json=True)
    assert not mixed.is_within
