"""Reading YAML and JSON: scalars as written, places, bounds, and no way to crash."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_monai.errors import SpecError
from airflow_monai.specs import check_text, load_text
from airflow_monai.specs.choices import TASK_TYPES
from airflow_monai.specs.reporting import MAX_PROBLEMS
from airflow_monai.specs.task_types import TASK_TYPE_SPECS
from airflow_monai.specs.tree import loader
from airflow_monai.specs.tree.loader import MAX_BYTES, LoadError, compose, decode
from airflow_monai.specs.tree.nodes import place_within
from tests.specs.fixtures import FIXTURES


@pytest.fixture(params=["libyaml", "pure Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pure Python":
        monkeypatch.setattr(loader, "_PARSER", yaml.SafeLoader)
    return request.param


def test_scalars_stay_as_written(parser: str):
    root, _ = compose("a: 1.0\nb: yes\nc: 0x10\nd: 2026-01-01\ne: ~\nf: 'null'\ng: 1_000\nh: 012\ni: !!str 5\n")
    plain = {"a": "1.0", "b": "yes", "c": "0x10", "d": "2026-01-01", "f": "null", "g": "1_000", "h": "012", "i": "5"}
    assert root.plain() == plain


def test_json_with_tabs_and_surrogate_pairs(parser: str):
    root, _ = compose('{\n\t"a":\t[true, null, 1.50],\n\t"b": "\\ud83d\\ude00 \\/ \\u00e9"\n}')
    assert root.plain() == {"a": ["true", None, "1.50"], "b": "\U0001f600 / é"}


def test_merge_keys_give_way_to_what_stands_beside_them(parser: str):
    root, _ = compose("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\n")
    assert root.plain()["c"] == {"x": "5", "y": "2", "z": "4"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty-file"),
        ("---\n...\n", "empty-file"),
        ("null", "empty-file"),
        ("a: b: c", "yaml-syntax"),
        ("a: [", "yaml-syntax"),
        ("a: \x07", "yaml-syntax"),
        ("%YAML 9.9\n---\na: b", "yaml-syntax"),
        ("a: 1\n---\nb: 2", "several-documents"),
        ("a: !secret x", "custom-tag"),
        ("a: !!binary aGVsbG8=", "custom-tag"),
        ("a: &a [*a]", "bad-alias"),
        ("a: *b", "bad-alias"),
        ("a: {<<: 3}", "bad-merge"),
        ("? [a]\n: b", "key-not-text"),
        ("[" * 100_000, "too-deep"),
        ("- " * 5_000, "too-deep"),
        ("{a: " * 1_000, "too-deep"),
        ("a: &a [" + "x," * 300 + "]\nb: [" + "*a," * 300 + "]", "too-many-nodes"),
        ("[" + "1," * 60_000 + "]", "too-many-nodes"),
    ],
)
def test_what_cannot_be_read_is_refused(parser: str, text: str, code: str):
    with pytest.raises(LoadError) as caught:
        compose(text)
    assert caught.value.code == code


def test_depth_counts_what_is_behind_aliases():
    deep = "".join(
        f"{name}: &{name} [[[[[*{before}]]]]]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(LoadError) as caught:
        compose("a: &a x\n" + deep)
    assert caught.value.code == "too-deep"


def test_size_is_bounded():
    with pytest.raises(LoadError) as caught:
        decode(b"a" * (MAX_BYTES + 1))
    assert caught.value.code == "too-large"
    assert "more than 1048576 bytes" in caught.value.message


def test_bytes_that_are_no_text_are_told_with_their_place():
    with pytest.raises(LoadError) as caught:
        decode(b"name: x\nversion: \xff")
    assert (caught.value.code, caught.value.line, caught.value.column) == ("not-utf8", 1, 9)


def test_line_ends_and_byte_order_mark_make_no_difference():
    text = (FIXTURES / "valid" / "ct-lung.yaml").read_text(encoding="utf-8")
    windows = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    assert load_text(windows, "x").digest == load_text(text, "x").digest


def test_many_keys_take_no_quadratic_time():
    started = time.thread_time()
    compose("\n".join(f"key{number}: 1" for number in range(14_000)))
    assert time.thread_time() - started < 30


@pytest.mark.parametrize(
    "written",
    ["{}", "'{}'", '"{}"', '"\\u0061\\x61{}"', "'''{}'", "|\n  line\n  {}", ">-\n    first\n    {}", "|+\n\n   {}"],
)
def test_the_place_of_a_character_within_a_scalar(written: str):
    text = "a:\n  b: " + written.replace("\n", "\n  ").format("xyz#") + "\n"
    root, _ = compose(text)
    node = root.entries[0][1].entries[0][1]
    line, column = place_within(text, node, node.text.index("#"))
    assert text.split("\n")[line - 1][column - 1] == "#"


def test_a_place_within_a_quoted_scalar_of_several_lines_is_its_beginning():
    text = 'a: "b\n  c #"\n'
    root, _ = compose(text)
    assert place_within(text, root.entries[0][1], 4) == (1, 4)


def test_problems_without_number_are_cut_short():
    tasks = [{"id": f"t{i}", "type": "router", "task_destinations": [{"name": f"no{i}"}]} for i in range(999)]
    data = {"name": "x", "version": "1", "informatics_gateway": {"ae_title": "A"}, "tasks": tasks}
    spec, problems = check_text(json.dumps(data), "many.json")
    assert spec is None
    assert len(problems) == MAX_PROBLEMS + 1
    assert "too-many-problems" in {problem.code for problem in problems}


BASE = (FIXTURES / "valid" / "every-field.yaml").read_bytes()


def _only_spec_errors(data: bytes) -> None:
    try:
        load_text(data, "fuzzed.yaml")
    except SpecError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 and str(problem) for problem in error.problems)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_workflow_or_a_spec_error(data: bytes):
    _only_spec_errors(data)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abn:-[]{}&*!|>'\"%@`#,?<\n \t~\\\x85\ufeff\ud800", max_size=80))
def test_any_text_is_a_workflow_or_a_spec_error(text: str):
    check_text(text, "fuzzed.yaml")
    _only_spec_errors(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(BASE)), st.integers(0, 40), st.binary(max_size=12))
def test_any_change_of_a_workflow_is_a_workflow_or_a_spec_error(at: int, length: int, put: bytes):
    _only_spec_errors(BASE[:at] + put + BASE[at + length :])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["name", "version", "predicate", "dataRetentionDays", "priority", "params", "schedule", "informatics_gateway"]
TASK_FIELDS = [
    "id",
    "type",
    "args",
    "artifacts",
    "task_destinations",
    "export_destinations",
    "resources",
    "retries",
    "retry_delay",
    "retry_policy",
    "for_each",
    "on_failure",
    "priority",
    "timeout_minutes",
]
GATEWAY_FIELDS = ["ae_title", "data_origins", "export_destinations", "quiet_seconds", "grouping", "late_images"]
PARAM = ["type", "default", "title", "choices", "minimum", "maximum"]
SCHEDULE = ["cron", "timezone", "select", "max_active", "limit", "priority"]
ARGUMENTS = sorted({arg.name for kind in TASK_TYPE_SPECS.values() for arg in kind.args} | {"env_A", "nothing"})
LIKELY = {
    "type": st.sampled_from(TASK_TYPES),
    "args": st.dictionaries(st.sampled_from(ARGUMENTS), json_values, max_size=5),
    "params": st.dictionaries(st.text(max_size=5), st.dictionaries(st.sampled_from(PARAM), json_values), max_size=3),
    "schedule": st.dictionaries(st.sampled_from(SCHEDULE), json_values),
    "retry_policy": st.dictionaries(st.sampled_from(["timeout", "connection", "x"]), json_values),
}


def likely(names):
    """Each field with values of any form, often of the one that it should have."""
    return {name: json_values | LIKELY[name] if name in LIKELY else json_values for name in names}


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional=likely(FIELDS)
        | {
            "tasks": st.lists(st.fixed_dictionaries({}, optional=likely(TASK_FIELDS)), max_size=3),
            "informatics_gateway": st.fixed_dictionaries({}, optional=dict.fromkeys(GATEWAY_FIELDS, json_values)),
        },
    )
)
def test_any_shape_of_the_fields_is_a_workflow_or_a_spec_error(data: dict):
    _only_spec_errors(json.dumps(data).encode())


def test_aliases_cannot_make_a_long_text_of_a_short_file():
    with pytest.raises(LoadError) as caught:
        compose(f"a: &a {'x' * 20_000}\nb: [{', '.join(['*a'] * 100)}]")
    assert (caught.value.code, caught.value.line) == ("too-large", 0)
    with pytest.raises(LoadError) as caught:
        compose(f"a: &a {'x' * 900}\nb:\n" + "".join("- ? *a\n  : 1\n" for _ in range(2_000)))
    assert caught.value.code == "too-large"


@pytest.mark.parametrize(("size", "codes"), [(32_000, []), (32_001, ["too-long"])])
def test_the_length_of_an_argument_is_bounded(size: int, codes: list[str]):
    text = (FIXTURES / "valid" / "ct-lung.yaml").read_text(encoding="utf-8")
    map_only = 'args: {map: "lung-seg:1.2.0"}'
    assert map_only in text
    long = "{ " * (size // 2) + "x" * (size % 2)
    _, problems = check_text(text.replace(map_only, f'{map_only[:-1]}, env_MORE: {{deep: ["{long}"]}}}}'), "x")
    assert [problem.code for problem in problems if problem.is_error] == codes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{\n  "name": "x"\n  "version": "1"\n}', "x.json:3:3: error: the text is no JSON: expecting ',' delimiter"),
        ('{"name": "x', "x.json:1:10: error: the text is no JSON: unterminated string starting at"),
        ("name: [", "x.json:1:1: error: the text is no JSON: expecting value"),
    ],
)
def test_a_json_file_is_told_what_is_wrong_with_its_json(text: str, told: str):
    (problem,) = check_text(text, "x.json")[1]
    assert str(problem).startswith(told)
    assert problem.code == "json-syntax"
    assert "YAML" not in str(problem)


def test_json_nested_without_end_is_a_spec_error():
    (problem,) = check_text("[" * 30_000, "x.json")[1]
    assert problem.code == "too-deep"
    (problem,) = check_text("[" * 30 + "}", "x.json")[1]
    assert problem.code == "json-syntax"
