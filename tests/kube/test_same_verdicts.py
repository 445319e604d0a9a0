"""What a map task publishes, and how it fails, as with the other runners: these are their own tests, on the cluster."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.kube.conftest import KubeSite
from tests.operators.test_map import (
    SEG_OUTPUT,
    test_a_retry_does_not_see_what_the_last_try_left,
    test_application_that_asks_for_another_try_gets_one,
    test_edges_are_taken_or_skipped,
    test_finished_task_is_not_run_again_by_a_retry,
    test_inputs_of_several_kinds,
    test_publishes_result_artifacts_and_log,
    test_the_time_limit_of_the_manifest_counts_too,
)
from tests.operators.test_map_durability import (
    test_cleared_task_ends_the_application_of_its_last_generation,
    test_new_try_follows_what_a_killed_worker_started,
    test_older_try_leaves_the_application_of_a_newer_one_alone,
    test_orphan_that_wakes_up_late_does_no_harm,
    test_task_that_is_ended_by_airflow_leaves_nothing,
    test_verdict_is_harvested_when_all_ended_meanwhile,
)

__all__ = [
    "test_a_retry_does_not_see_what_the_last_try_left",
    "test_application_that_asks_for_another_try_gets_one",
    "test_cleared_task_ends_the_application_of_its_last_generation",
    "test_edges_are_taken_or_skipped",
    "test_finished_task_is_not_run_again_by_a_retry",
    "test_inputs_of_several_kinds",
    "test_new_try_follows_what_a_killed_worker_started",
    "test_older_try_leaves_the_application_of_a_newer_one_alone",
    "test_orphan_that_wakes_up_late_does_no_harm",
    "test_publishes_result_artifacts_and_log",
    "test_task_that_is_ended_by_airflow_leaves_nothing",
    "test_the_time_limit_of_the_manifest_counts_too",
    "test_verdict_is_harvested_when_all_ended_meanwhile",
]

FAILURES = {
    "exit7": ("exit7", {}, r"exit code 7\. It last said: 'noop: (mode exit7|failing with exit code 7, as asked)'\."),
    "no output": ("no-output", {"outputs": SEG_OUTPUT}, "mandatory artifact 'seg' .*type SEG.*there is nothing"),
    "too long": ("sleep", {"timeout_minutes": 0.05}, "longer than its time limit of 3 s"),
    "too much memory": ("memory", {"resources": {"memory": "48Mi"}}, "memory limit of 48 MiB"),
    "no such image": ("ok", {"map": "no-such-map:9.9"}, "cannot get the image 'no-such-map:9.9'"),
    "no reference": ("ok", {"map": "No/Such:::x"}, "is no reference of an image"),
    "no MAP": ("ok", {"map": "airflow-monai-map-base:bookworm"}, "is no MAP"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failure_names_its_cause_and_is_final(site: KubeSite, failure: str) -> None:
    mode, arguments, message = FAILURES[failure]
    with pytest.raises(AirflowFailException, match=message):
        site.run(**site.arguments(mode, **arguments))
    assert site.record().error_msg
    assert site.traces() == []


def test_command_that_does_not_exist_is_told(site: KubeSite) -> None:
    reference = site.maker.make("wrong", "", command="no-such-program --fast")
    with pytest.raises(AirflowFailException, match=r"cannot be started: .*no-such-program"):
        site.run(**site.arguments(map=reference))
    assert site.traces() == []
