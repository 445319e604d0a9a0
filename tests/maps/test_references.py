"""References of images as people write them."""

from __future__ import annotations

import pytest

from airflow_monai.maps.references import Reference, names_by_id

ID = f"sha256:{'0123456789ab' + 'c' * 52}"


@pytest.mark.parametrize(
    ("text", "parts", "asked"),
    [
        ("alpine", ("alpine", "", ""), ("alpine", "latest")),
        ("alpine:3", ("alpine", "3", ""), ("alpine", "3")),
        ("host:5000/a/b", ("host:5000/a/b", "", ""), ("host:5000/a/b", "latest")),
        ("host:5000/a/b:1", ("host:5000/a/b", "1", ""), ("host:5000/a/b", "1")),
        ("host:5000/a/b@sha256:0", ("host:5000/a/b", "", "sha256:0"), ("host:5000/a/b@sha256:0", None)),
        ("host:5000/a/b:1@sha256:0", ("host:5000/a/b", "1", "sha256:0"), ("host:5000/a/b@sha256:0", None)),
    ],
)
def test_parts_and_what_an_engine_pulls(text: str, parts: tuple[str, str, str], asked: tuple[str, str | None]) -> None:
    reference = Reference.of(text)
    assert (reference.repository, reference.tag, reference.digest) == parts
    assert reference.for_pull() == asked


@pytest.mark.parametrize(
    ("reference", "is_id"),
    [(ID, True), ("0123456789ab", True), ("sha256:0123", True), ("0123456789ac", False), ("noop:1.0.0", False)],
)
def test_ids_short_and_whole(reference: str, is_id: bool) -> None:
    assert names_by_id(reference, ID) is is_id
