"""Whether a task that delivered something runs once more."""

from __future__ import annotations

import pytest

from airflow_monai.sinks.ledger.cleared import Cleared


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ({"success"}, None),
        ({"success", "failed", "skipped"}, None),
        ({"success", "up_for_retry"}, None),  # of each series one: what those have delivered that are done, they keep
        ({"failed", "queued"}, None),
        ({"success", "None"}, None),
        ({"queued", "scheduled", "None"}, Cleared.COMING),
        ({"up_for_retry"}, Cleared.COMING),
        ({"success", "up_for_retry", "running"}, Cleared.RUNNING),
        ({"queued", "deferred"}, Cleared.RUNNING),
        (set(), Cleared.GONE),
    ],
)
def test_it_is_cleared_unless_all_of_it_is_to_run_or_some_of_it_runs(states: set[str], told: Cleared | None) -> None:
    assert Cleared.already(states) is told
