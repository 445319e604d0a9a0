from __future__ import annotations

import pytest

from airflow_monai.maps.runners.base import Exit


@pytest.mark.parametrize(
    ("ended", "killed"),
    [
        (Exit(0), False),
        (Exit(7), False),
        (Exit(137), True),
        (Exit(143), True),
        (Exit(137, oom=True), False),
        (Exit(143, timed_out=True), False),
        (Exit(255), False),  # an application's own exit(-1)
        (Exit(255, reattached=True), True),  # a host that lost power
    ],
)
def test_what_counts_as_ended_from_outside(ended: Exit, killed: bool) -> None:
    assert ended.killed is killed
