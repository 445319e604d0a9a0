"""Amounts of memory."""

from __future__ import annotations

import pytest

from airflow_monai.specs.units import memory_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1024", 1024),
        ("512Mi", 512 * 2**20),
        ("8Gi", 8 * 2**30),
        ("1MiB", 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("1MB", 10**6),
        ("2 GB", 2 * 10**9),
        ("3m", 3 * 2**20),
        ("2g", 2**31),
    ],
)
def test_units(text: str, amount: int):
    assert memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "Gi", "8 Gigs", "-1Gi", "1e9", "8Gi8", "1,5Gi", "9" * 40])
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(ValueError, match="is not an amount of memory"):
        memory_bytes(text)
