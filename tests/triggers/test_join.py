"""What a join makes of the states of the ways before it."""

from __future__ import annotations

import pytest

from airflow_monai.triggers.join import JoinTrigger, Verdict, states_of, verdict_of

WAYS = ["a.to.end", "b.to.end", "entry.to.end"]
TOLD = {
    "a.to.end_0": "success",
    "a.to.end_1": "failed",
    "a.to.end_10": "skipped",
    "b.to.end": "skipped",  # given up before it was expanded
    "entry.to.end": "success",
}


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        (["success", "skipped"], Verdict.RUN),
        (["success", "failed", "upstream_failed"], Verdict.RUN),
        (["skipped", "skipped"], Verdict.SKIP),
        (["skipped", "removed"], Verdict.SKIP),
        (["skipped", "upstream_failed"], Verdict.FAIL),
        (["failed"], Verdict.FAIL),
        ([None], Verdict.FAIL),
    ],
)
def test_runs_when_something_ended_well_and_fails_when_all_that_was_taken_failed(
    states: list[str | None], verdict: Verdict
) -> None:
    assert verdict_of(states) is verdict


@pytest.mark.parametrize(
    ("series", "states"),
    [
        (0, ["success", "skipped", "success"]),
        (1, ["failed", "skipped", "success"]),
        (10, ["skipped", "skipped", "success"]),
    ],
)
def test_a_join_of_a_series_sees_the_ways_of_that_series_and_those_of_the_study(series: int, states: list[str]) -> None:
    assert states_of(WAYS, series, TOLD) == states


def test_a_join_of_the_study_sees_all_series() -> None:
    assert sorted(map(str, states_of(WAYS, -1, TOLD))) == ["failed", "skipped", "skipped", "success", "success"]


def test_the_trigger_comes_back_from_the_database_as_it_was() -> None:
    trigger = JoinTrigger(dag_id="ct", run_id="run", ways=WAYS, map_index="2")
    path, kwargs = trigger.serialize()
    assert path == "airflow_monai.triggers.join.JoinTrigger"
    assert JoinTrigger(**kwargs).serialize() == (path, kwargs)
