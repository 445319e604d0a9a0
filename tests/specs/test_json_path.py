"""Places within JSON documents."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_monai.specs.json_path import keys_of, look_up

DOCUMENT = {"a": {"b": [{"id": 1}, {"id": None}]}, "x/y": {"~": 2}, "": 3, "1": "one"}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("a.b.0.id", 1),
        ("/a/b/0/id", 1),
        ("/x~1y/~0", 2),
        ("/", 3),
        ("1", "one"),
        ("a.b.1.id", None),
        ("a.b.2", None),
        ("a.b.-1", None),
        ("a.c.d", None),
        ("1.x", None),
        ("a.b", [{"id": 1}, {"id": None}]),
    ],
)
def test_look_up(place: str, value: Any) -> None:
    assert look_up(DOCUMENT, place) == value


@pytest.mark.parametrize("place", ["", "a..b", ".a", "/a~2", "/a~", ".".join("a" * 60)])
def test_no_place(place: str) -> None:
    with pytest.raises(ValueError, match=r"JSON Pointer|keys"):
        keys_of(place)
