"""The generated file holds any text, exactly."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_monai.bundles.generate import dag_file_text, literal

HARD = [
    "",
    "'''",
    '"""',
    "''' and \"\"\"",
    "ends in a backslash\\",
    "ends in quotes'",
    'ends in quotes"',
    "\\''' \\u0041 \\N{BULLET}",
    "line ends\r\nof all\rkinds\x0b\x0c\x1c\u2028\u0085",
    "NUL \0 and a surrogate \ud800",
    "\ufeffwith a mark",
    "# -*- coding: utf-7 -*-",
]


@pytest.mark.parametrize("text", HARD)
def test_hard_texts(text: str) -> None:
    assert value_of(text) == text


@given(st.text(st.characters(codec=None)))
def test_any_text(text: str) -> None:
    assert value_of(text) == text


@given(st.text(alphabet="'\"\\\n\r{}#\0 xN", max_size=30))
def test_texts_of_what_ends_a_string(text: str) -> None:
    assert value_of(text) == text


def test_an_ordinary_text_is_shown_as_it_is() -> None:
    text = "name: ct\nvalue: \"{{ context.input.dicom }}\"\npath: C:\\temp 'x'\n"
    assert text in dag_file_text(text, "ct.yaml")


def test_the_generated_file_passes_the_dag_processors_first_look() -> None:
    """It parses only files in which the words airflow and dag occur."""
    generated = dag_file_text("", "x.yaml").lower()
    assert "airflow" in generated and "dag" in generated


def value_of(text: str) -> str:
    """What Python reads from the generated source, as bytes on disk."""
    source = f"SPEC = {literal(text)}\n".encode()
    statement = ast.parse(source).body[0]
    assert isinstance(statement, ast.Assign)
    return eval(compile(ast.Expression(statement.value), "x", "eval"))
