"""What to do about text that is no YAML."""

from __future__ import annotations

import time

import pytest
import yaml

from airflow_monai.specs import check_text
from airflow_monai.specs.tree import loader


@pytest.fixture(params=["libyaml", "pure Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pure Python":
        monkeypatch.setattr(loader, "_PARSER", yaml.SafeLoader)
    return request.param


COLUMNS = (
    "check the indentation: line {} begins in column {}, line {} in column {}; the fields of one mapping begin in the"
)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("name: a\n  version: 1\n", COLUMNS.format(2, 3, 1, 1)),
        ("tasks:\n    - id: a\n   type: map\n", COLUMNS.format(3, 4, 2, 7)),
        ("tasks:\n  - id: a\n      type: map\n", COLUMNS.format(3, 7, 2, 5)),
        ("tasks:\n  - id: a\n# the kind\n\n   type: map\n", COLUMNS.format(5, 4, 2, 5)),
        ("tasks:\n  - id: a\n  id: b\n", COLUMNS.format(3, 3, 2, 5)),
        (
            "tasks:\n  - id: a\n - id: b\n",
            "check the indentation: line 3 begins in column 2, line 2 in column 3; the dash",
        ),
        (
            "tasks:\n  - id: a\n    args:\n      map: x\n   - id: b\n",
            "check the indentation: line 5 begins in column 4, line 2 in column 3; the dashes of one list begin in",
        ),
        (
            "tasks:\n  - id: a\n    list:\n      - x\n     - y\n",
            "check the indentation: line 5 begins in column 6, line 4 in column 7; the dashes of one list begin in",
        ),
        ("tasks:\n\t- id: a\n", "indent with blanks, not with tabs"),
        ("name:lung\nversion: 1\n", "leave a blank after the colon on line 1: name: ..."),
        ("tasks:\n  - id:seg\n    type: map\n", "leave a blank after the colon on line 2: id: ..."),
        ("name: x\nversion:1\ntasks: []\n", "leave a blank after the colon on line 2: version: ..."),
        ("name: x\nversion\ntasks: []\n", "write line 2 as key: value"),
        ("description: note: this\n", "put a text that holds ': ' in quotes"),
        ('description: "b" c\n', "put the whole value in quotes, not a part of it"),
        ("conditions: [{{ a.b }} == 'x']\n", "put a value with {{ }} in double quotes"),
        ("conditions: [\"{{ a.b }}\" == 'x']\n", "put a value with {{ }} in double quotes"),
        ("value: {{ a.b }}/x\nb: c\n", "put a value with {{ }} in double quotes"),
        ('name: "abc\nversion: 1\n', "the quote that opens on line 1 is not closed"),
        ("a: [b, c\nd: e\n", "the bracket that opens on line 1 is not closed, or a comma is missing"),
        ("a: {b: c\nd: e\n", "the bracket that opens on line 1 is not closed, or a comma is missing"),
        ("a: @b\n", "put a text that begins with '@' in quotes"),
        ("cron: * * * * *\n", "put a text that begins with '*' in quotes"),
        ("cron: */5 * * * *\n", "put a text that begins with '*' in quotes"),
    ],
)
def test_common_mistakes_have_a_hint(parser: str, text: str, hint: str):
    (problem,) = check_text(text, "x.yaml")[1]
    assert problem.is_error
    assert problem.hint.startswith(hint)


def test_a_missing_blank_in_braces_has_a_hint():
    problems = check_text("{name:lung, version: 1}", "x.yaml")[1]
    assert "leave a blank after the colon: name: ..." in [problem.hint for problem in problems]


@pytest.mark.parametrize("line", ['\\"' * 200_000, "'a" * 200_001, "- " * 30 + '"' * 300_001, "a: " + " \t" * 200_000])
def test_a_hint_for_a_hostile_line_takes_no_quadratic_time(line: str):
    started = time.thread_time()
    check_text(f"a: [\n{line}\nb: c: d", "x.yaml")
    assert time.thread_time() - started < 5
